"""What the git door shows to whom, asked by the git that everybody has."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pygit2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import AT, OWN
from git_door_kit import HARMLESS, HOST, OWN_REF, SOMEBODY, Site, commands, serving, unchanged

from controller.adapters.git_pack import FLUSH, packet
from tools.git_calls import FAULTS


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


# --- fetching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_clone_gets_the_protected_branch_and_nothing_of_other_sessions(site: Site, version: str) -> None:
    site.land({"src/secret_plan.py": "plan\n"}, branch="agent/other/1")
    site.land({"src/cart.py": "begun\n"}, branch=OWN)
    clone = await site.clone("clone", "-c", f"protocol.version={version}")
    shown = await site.git("ls-remote", "origin", at=clone)
    assert [line.split("\t")[1] for line in shown.text.splitlines()] == ["HEAD", OWN_REF, "refs/heads/main"]
    assert (clone / "src/app.py").read_text() == HARMLESS["src/app.py"]
    assert await site.refused() == []


@pytest.mark.parametrize("version", ["0", "2"])
async def test_commit_of_another_session_cannot_be_fetched_by_its_id(site: Site, version: str) -> None:
    hidden = site.land({"src/secret_plan.py": "plan\n"}, branch="agent/other/1")
    clone = await site.clone()
    for wanted in (hidden, str(site.repository[hidden].peel(pygit2.Tree).id)):
        said = await site.git("-c", f"protocol.version={version}", "fetch", "origin", wanted, at=clone)
        assert said.code != 0
        assert "cat-file: no" not in said.text
        assert (await site.git("cat-file", "-e", wanted, at=clone)).code != 0


async def test_commits_that_were_shown_a_moment_ago_can_still_be_fetched(site: Site) -> None:
    clone = await site.clone()
    before = site.land({"src/cart.py": "one\n"})
    site.land({"src/cart.py": "two\n"})
    want = packet(f"want {before} no-progress ofs-delta\n".encode()) + FLUSH + packet(b"done\n")
    answer = await site.post(want, "git-upload-pack")
    assert answer.status_code == 200
    assert answer.content.startswith(b"0008NAK\nPACK")
    assert (await site.git("fetch", "--quiet", at=clone)).code == 0


async def test_second_fetch_brings_only_what_is_new(site: Site) -> None:
    clone = await site.clone()
    landed = site.land({"src/cart.py": "def total(prices):\n    return 0\n"})
    assert (await site.git("pull", "--quiet", at=clone)).code == 0
    assert (await site.git("rev-parse", "HEAD", at=clone)).text.strip() == landed


async def test_shallow_clone_works(site: Site) -> None:
    site.land({"src/cart.py": "two\n"})
    clone = await site.clone("shallow", "-c", "clone.defaultRemoteName=origin")
    said = await site.git("clone", "--quiet", "--depth=1", site.url, "flat")
    assert said.code == 0, said.text
    assert (await site.git("rev-list", "--count", "HEAD", at=site.folder / "flat")).text.strip() == "1"
    assert (await site.git("rev-list", "--count", "HEAD", at=clone)).text.strip() == "2"


@pytest.mark.parametrize("version", ["0", "2"])
async def test_secret_in_the_history_makes_the_fetch_refused(tmp_path: Path, version: str) -> None:
    async with serving(Site(tmp_path)) as site:
        await site.begin()  # FILES hold config/.env
        said = await site.git("-c", f"protocol.version={version}", "clone", site.url, "clone")
        assert said.code != 0
        assert "path-never-granted" in said.text
        assert ".env" not in said.text
        assert "path-never-granted" in (await site.refused())[0]


async def test_secret_that_was_removed_again_or_looks_like_another_file_is_still_one(site: Site) -> None:
    await site.clone("before")
    same = HARMLESS["README.md"]
    site.land({"deploy/prod.pem": same})  # the same object as README.md
    repository = site.repository
    main = repository.references["refs/heads/main"].peel(pygit2.Commit)
    who = SOMEBODY.signed(AT)
    gone = repository.create_commit(None, who, who, "gone", main.parents[0].tree.id, [main.id])
    repository.references["refs/heads/main"].set_target(gone)
    said = await site.git("clone", site.url, "after")
    assert said.code != 0
    assert "path-never-granted" in said.text


async def test_refused_fetch_is_told_in_the_answer_to_the_request_itself(tmp_path: Path) -> None:
    async with serving(Site(tmp_path)) as site:
        await site.begin()
        want = packet(f"want {site.world.base}\n".encode()) + FLUSH + packet(b"done\n")
        answer = await site.post(want, "git-upload-pack")
        assert answer.content[4:].startswith(b"ERR these branches hold")


async def test_role_without_the_grant_fetches_nothing(tmp_path: Path) -> None:
    async with serving(Site(tmp_path)) as site:
        await site.world.begin()
        site.token = site.world.desk.sign_in(site.world.badge())  # an author
        said = await site.git("clone", site.url, "clone")
        assert "403" in said.text
        assert await site.refused() == [("tool-not-granted",)]


# --- who asks ---------------------------------------------------------------------------------------------------------


async def test_wrong_token_is_asked_for_a_better_one(site: Site) -> None:
    said = await site.git("clone", site.url, "clone", token="wrong")  # noqa: S106 - that is the point
    assert "Authentication failed" in said.text
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{site.url}/info/refs?service=git-upload-pack")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="flyball"')


async def test_another_repository_is_not_open_whether_it_exists_or_not(site: Site) -> None:
    told = []
    for name in ("billing", "nowhere"):
        said = await site.git("clone", site.url.replace("shop", name), "clone")
        told.append(said.text.replace(name, "that").splitlines()[1].partition("(rule")[0])
    assert told[0] == told[1]
    assert "not open to this session" in told[0]
    assert len(await site.refused()) == 2


async def test_revoked_session_pushes_nothing_more(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("changed\n")
    await site.commit(clone)
    await site.world.revoke()

    async def act() -> None:
        said = await site.push(clone)
        assert said.code != 0
        assert "control/" in said.text

    await unchanged(site, act)


async def test_session_revoked_while_its_pack_is_on_the_way_changes_nothing(site: Site) -> None:
    clone = await site.clone()
    (clone / "src/cart.py").write_text("changed\n")
    new = await site.commit(clone)
    whole = commands((None, new, OWN_REF)) + await site.pack(clone, new, f"^{site.world.base}")

    async def in_two() -> AsyncIterator[bytes]:
        yield whole[:-30]
        await asyncio.wait_for(site.plumbing.begun.wait(), 10)  # the ref has been decided, the pack is being read
        await site.world.revoke()
        yield whole[-30:]

    async def act() -> None:
        kind = {"Content-Type": "application/x-git-receive-pack-request", "Authorization": f"Bearer {site.token}"}
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{site.url}/git-receive-pack", content=in_two(), headers=kind)
        assert b"ng refs/heads/" in answer.content
        assert b"control/" in answer.content

    await unchanged(site, act)


async def test_token_without_the_scope_is_told_what_it_needs(tmp_path: Path) -> None:
    async with serving(Site(tmp_path)) as site:
        await site.begin(HARMLESS, scopes=frozenset({"forge:read"}))
        async with httpx2.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": f"Bearer {site.token}"}
            answer = await http.get(f"{site.url}/info/refs?service=git-upload-pack", headers=headers)
        assert answer.status_code == 403
        assert 'scope="forge:read workspace:read"' in answer.headers["www-authenticate"]
        assert await site.refused() == [("insufficient-scope",)]


# --- the request itself -----------------------------------------------------------------------------------------------


async def test_client_that_only_tries_its_credentials_is_let_in(site: Site) -> None:
    answer = await site.post(FLUSH)
    assert (answer.status_code, answer.content) == (200, b"")


async def raw(site: Site, request: str) -> int:
    reader, writer = await asyncio.open_connection(HOST, site.port)
    writer.write(request.replace("\n", "\r\n").encode())
    await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


REQUESTS = [
    ("/git/shop.git/info/refs?service=git-upload-pack", "Authorization: Bearer {token}\n", 200),
    (
        "/git/shop.git/info/refs?service=git-upload-pack",
        "Authorization: Bearer {token}\nauthorization: Bearer x\n",
        400,
    ),
    ("/git/shop.git/info/refs?service=git-upload-pack&token={token}", "", 400),
    ("/git/shop.git/info/refs?token={token}&service=git-upload-pack", "Authorization: Bearer {token}\n", 400),
    ("/git/shop.git/info/refs?service=git-upload-archive", "Authorization: Bearer {token}\n", 400),
    ("/git/shop.git/info/refs", "Authorization: Bearer {token}\n", 400),
    ("/git/shop.git/HEAD", "Authorization: Bearer {token}\n", 404),
    ("/git/shop.git/objects/info/packs", "Authorization: Bearer {token}\n", 404),
    ("/git/%73hop.git/info/refs?service=git-upload-pack", "Authorization: Bearer {token}\n", 404),
    ("/git/../git/shop.git/info/refs?service=git-upload-pack", "Authorization: Bearer {token}\n", 404),
    ("/git/shop.git/git-receive-pack", "Authorization: Bearer {token}\n", 405),
    ("/git/shop.git/info/refs?service=git-upload-pack", "Authorization: Basic ???\n", 401),
    ("/git/shop.git/info/refs?service=git-upload-pack", "Authorization: Digest {token}\n", 401),
]


async def test_request_has_one_reading_or_none(site: Site) -> None:
    for target, headers, status in REQUESTS:
        head = f"GET {target} HTTP/1.1\nHost: {HOST}:{site.port}\nConnection: close\n{headers}\n"
        assert await raw(site, head.replace("{token}", site.token)) == status, (target, headers)


async def test_other_hosts_and_origins_are_sent_away(site: Site) -> None:
    line = f"GET /git/shop.git/info/refs?service=git-upload-pack HTTP/1.1\nAuthorization: Bearer {site.token}\n"
    assert await raw(site, f"{line}Host: evil.example\n\n") == 421
    assert await raw(site, f"{line}Host: {HOST}:{site.port}\nOrigin: http://evil.example\n\n") == 403


async def test_gzipped_body_is_bounded_as_it_unfolds(site: Site) -> None:
    def gzipped(content: bytes) -> bytes:
        packing = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        return packing.compress(content) + packing.flush()

    bomb = gzipped(b"0032have " + b"0" * 200 * 1024 * 1024)
    assert (await site.post(bomb, "git-upload-pack", Content_Encoding="gzip")).status_code == 413
    whole = gzipped(packet(f"want {site.world.base}\n".encode()) + FLUSH + packet(b"done\n"))
    assert (await site.post(whole, "git-upload-pack", Content_Encoding="gzip")).content.startswith(b"0008NAK\nPACK")
    assert (await site.post(whole[:-9], "git-upload-pack", Content_Encoding="gzip")).status_code == 400
    assert (await site.post(whole + b"x", "git-upload-pack", Content_Encoding="gzip")).status_code == 400
    assert (await site.post(whole, "git-upload-pack", Content_Encoding="br")).status_code == 415


async def test_fetch_in_words_that_are_not_on_the_list_is_not_understood(site: Site) -> None:
    for words in (
        b"command=object-info",
        b"want-ref refs/heads/agent/other/1",
        b"deepen-not refs/heads/agent/other/1",
        b"filter blob:none",
        b"want 123",
        b"server-option=x",
    ):
        answer = await site.post(packet(words) + FLUSH, "git-upload-pack", Git_Protocol="version=2")
        assert answer.status_code == 400, words


async def test_push_that_is_no_push_is_not_understood(site: Site) -> None:
    for request in (b"zzzz", b"0003", b"00ff", b"", packet(b"push-cert x"), packet(b"no command")):
        assert (await site.post(request)).status_code == 400, request


def test_every_fault_has_words_and_names_whom_to_be() -> None:
    said = {fault: words.format(count=2, name="NAME", email="EMAIL") for fault, words in FAULTS.items()}
    assert "NAME" in said["foreign_identities"]
    assert "EMAIL" in said["foreign_identities"]
    found = {"links", "submodules", "odd_modes", "unrelated_commits", "excess_files", "excess_commits", "broken_packs"}
    found |= {"excess_objects", "excess_bytes", "deep_deltas", "no_commits", "foreign_objects", "stray_objects"}
    found |= {"signed_off", "forged_trailers", "foreign_identities", "absurd_dates", "extra_headers"}
    found |= {"unreadable_messages", "other_refs", "deletions", "shallow_commits", "odd_parents", "secret_messages"}
    assert found == set(FAULTS)
