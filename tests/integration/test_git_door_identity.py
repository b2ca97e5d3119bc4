"""Whom a pushed commit names, and what else it says: ours to write, or the push is refused and told how to mend it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import pygit2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import DELIVERY, OWN
from git_door_kit import (
    BLOB,
    BY,
    COMMIT_OBJECT,
    HARMLESS,
    NOW,
    OWN_REF,
    TREE,
    Site,
    commands,
    commit_of,
    named,
    object_id,
    pack_of,
    refused_push,
    serving,
    tree_of,
    unchanged,
)

from controller.adapters.git_trees import entries_of
from controller.provenance.identity import GitIdentity, identity_of

PERSON = "Linus Torvalds <torvalds@example.org>"
LOOP = "Flyball <flyball@localhost>"
YEAR_9999 = "253370764800 +0000"
SIGNATURE = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQFakeFakeFake\n -----END PGP SIGNATURE-----\n"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(Site(tmp_path)) as found:
        await found.begin(HARMLESS)
        yield found


def push_of(site: Site, said: Mapping[str, object], old: str | None = None) -> bytes:
    """A push of one commit that changes src/cart.py, and says this."""
    base = site.repository.references["refs/heads/main"].peel(pygit2.Commit)
    body = b"better\n"
    src = with_object(site, base.tree["src"].id, b"cart.py", object_id(BLOB, body))
    top = with_object(site, base.tree_id, b"src", object_id(TREE, src))
    words = {name: value for name, value in said.items() if name != "parents"}
    parents = [str(base.id)] * int(str(said.get("parents", 1)))
    commit = commit_of(object_id(TREE, top), *parents, **words)  # type: ignore[arg-type]
    new = object_id(COMMIT_OBJECT, commit)
    pack = pack_of((BLOB, body), (TREE, src), (TREE, top), (COMMIT_OBJECT, commit))
    return commands((old, new, OWN_REF)) + pack


def with_object(site: Site, tree: pygit2.Oid, name: bytes, other: str) -> bytes:
    rows = entries_of(site.repository, tree)
    return tree_of(*((one.mode, one.name, other if one.name == name else one.id.hex()) for one in rows))


FOREIGN, TRAILER, DATE = (
    b"name another author or committer",
    b"trailers that code alone writes",
    b"a date that cannot be",
)
HEADER, UNREADABLE = b"a signature, an encoding or other headers", b"not UTF-8, is too long, or"
SECRET, PARENTS = b"what looks like a secret", b"one parent twice, or more than 16"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"  # in parts, so that no scanner takes it for one
FORGED: list[tuple[dict[str, object], bytes]] = [
    ({"message": f"work\n\nTried it with {TOKEN}.\n"}, SECRET),
    ({"message": "work\n\npassword=" + "hunter2horse-battery9\n"}, SECRET),
    ({"parents": 2}, PARENTS),
    ({"parents": 5_000}, PARENTS),
    ({"message": "work\n\nSigned-\u043eff-by: Ann <ann@example.org>\n"}, b"agents never sign off"),
    ({"message": "work\n\nReviewed\u2011by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work\n\n\u0410cked-by\ua789 Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work \U000e0157\U000e0155\n"}, UNREADABLE),
    ({"message": "work\u3164\u2800\n"}, UNREADABLE),
    ({"by": PERSON}, FOREIGN),
    ({"committer": PERSON}, FOREIGN),
    ({"by": PERSON, "committer": PERSON}, FOREIGN),
    ({"by": LOOP, "committer": LOOP}, FOREIGN),
    ({"by": f"{BY.name} <someone@example.org>"}, FOREIGN),
    ({"by": f"Ann <{BY.email}>"}, FOREIGN),
    ({"by": f"{BY.name}  <{BY.email}>"}, FOREIGN),
    ({"by": identity_of("merger", "shop-1a2b3c/1").spelt}, FOREIGN),
    ({"by": identity_of("contributor", "shop-other/1").spelt}, FOREIGN),
    ({"message": "work\n\nCo-authored-by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work\n\nReviewed-by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work\n\nAcked-by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work\n\nFlyball-Delivery: shop-ffffff\n"}, TRAILER),
    ({"message": "work\n\nAgent-Session: shop-ffffff/1\nRequested-By: ann\n"}, TRAILER),
    ({"message": "work\n\nAssisted-by: flyball-author:other-model\n"}, TRAILER),
    ({"message": "work\n\nAudit-Entry: log#1\n"}, TRAILER),
    ({"message": "work\n\nReverts: 1234567890\n"}, TRAILER),
    ({"message": "work\n\n> Reviewed-by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "work\n\n\uff32eviewed-by: Ann <ann@example.org>\n"}, TRAILER),
    ({"message": "Reviewed-by : Ann <ann@example.org>\n\nwork\n"}, TRAILER),
    ({"message": "work\n\nSigned-off-by: Ann <ann@example.org>\n"}, b"agents never sign off"),
    ({"message": "work\n\nReviewed\u200b-by: Ann\n"}, TRAILER),
    ({"more": SIGNATURE}, HEADER),
    ({"more": b"encoding ISO-8859-1\n"}, HEADER),
    ({"more": b"mergetag object 1234567890123456789012345678901234567890\n type commit\n"}, HEADER),
    ({"more": b"HG:extra rebase_source:1\n"}, HEADER),
    ({"more": b"author " + PERSON.encode() + b" 1 +0000\n"}, HEADER),
    ({"message": b"caf\xe9\n"}, UNREADABLE),
    ({"message": "work \x1b[2J\x1b[1;31mAPPROVED\n"}, UNREADABLE),
    ({"message": "work\rReviewed\n"}, UNREADABLE),
    ({"message": "work \u202egnp.exe\n"}, UNREADABLE),
    ({"message": "work \U000e0041\U000e0042\n"}, UNREADABLE),
    ({"message": "work\u2028more\n"}, UNREADABLE),
    ({"message": "x" * 70_000}, UNREADABLE),
    ({"at": YEAR_9999}, DATE),
    ({"at": f"{NOW + 200_000} +0000"}, DATE),
    ({"at": "0 +0000"}, DATE),
    ({"at": f"{NOW} +9959"}, DATE),
    ({"at": f"{NOW} -0090"}, DATE),
]


async def test_what_is_not_the_sessions_to_say_is_refused(site: Site) -> None:
    for said, told in FORGED:
        await unchanged(site, partial(refused_push, site, push_of(site, said), told))


HONEST: list[dict[str, object]] = [
    {},
    {"message": "Größe der Schrift ändern\n\nWarum: weil sie zu klein war.\n"},
    {"message": "Add a heart ❤️\n\n\u0421\u0442\u0440\u043e\u043a\u0430: 7. Password rules: docs. by-and-by: yes\n"},
    {"message": "Add a smile 👩‍💻\n\n- one thing\n\t- another thing\n"},
    {"message": "Fix: handle http://example.org/a-by:b\n\nSee also: the docs. Done by: nobody in particular.\n"},
    {"at": f"{NOW - 86_400 * 30} +0545"},
    {"at": f"{NOW + 3_600} -1100"},
    {"message": ""},
]


async def test_the_twin_that_says_what_it_was_told_is_let_in(site: Site) -> None:
    for said in HONEST:
        answer = await site.post(push_of(site, said, site.refs().get(OWN_REF)))
        assert b"ok refs/heads/" in answer.content, (said, answer.content)
    assert await site.refused() == []


async def test_git_with_another_identity_is_told_how_to_set_it_and_the_words_work(site: Site) -> None:
    clone = await site.clone()
    site.identity = named(GitIdentity("Ann", "ann@example.org"))
    (clone / "src/cart.py").write_text("mine\n")
    await site.commit(clone)
    said = await site.push(clone)
    assert said.code != 0
    told = said.text.replace("\n", " ")
    assert f"git config user.name {BY.name} && git config user.email {BY.email}" in told
    site.identity = {}
    for key, value in (("user.name", BY.name), ("user.email", BY.email)):
        assert (await site.git("config", key, value, at=clone)).code == 0
    again = "git commit --amend --no-edit --reset-author"
    rebased = await site.git("rebase", "--quiet", "origin/main", "--exec", again, at=clone)
    assert rebased.code == 0, rebased.text
    said = await site.push(clone)
    assert said.code == 0, said.text


async def test_commits_of_others_that_are_shown_may_be_built_upon_and_merged(site: Site) -> None:
    """Main's authors and the loop's own commits are whoever they are."""
    site.land({"src/cart.py": "begun by the loop\n"}, branch=OWN)
    site.land({"src/app.py": "landed by somebody\n"})
    clone = await site.clone()
    assert (await site.git("checkout", "--quiet", "-b", "work", f"origin/{OWN}", at=clone)).code == 0
    (clone / "src/more.py").write_text("mine\n")
    await site.commit(clone)
    merged = await site.git("merge", "--quiet", "--no-edit", "origin/main", at=clone)
    assert merged.code == 0, merged.text
    said = await site.push(clone)
    assert said.code == 0, said.text


async def test_one_forged_commit_among_honest_ones_refuses_them_all(site: Site) -> None:
    clone = await site.clone()
    for number, who in enumerate((BY, GitIdentity("Ann", "ann@example.org"), BY)):
        site.identity = named(who)
        (clone / "src/cart.py").write_text(f"{number}\n")
        await site.commit(clone)

    async def act() -> None:
        assert "1 of its commits name another author" in (await site.push(clone)).text

    await unchanged(site, act)


def test_an_identity_is_nobodys_and_stays_from_session_to_session() -> None:
    assert BY.spelt == f"flyball-contributor <{DELIVERY}@flyball.invalid>"
    assert identity_of("author", f"{DELIVERY}/1") == identity_of("author", f"{DELIVERY}/2")
    assert identity_of("contributor", "client.editor/7").email == "client.editor@flyball.invalid"
