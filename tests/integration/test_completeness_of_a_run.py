"""A whole run over the real adapters, its controller killed without a word twice, joined to what the world shows.

Git keeps a reflog of every ref from before the run, so that a branch which was moved and moved back would be seen. The
edge, the CI folders, the outbox and the agents' calls are read as anybody at this machine could read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))
sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from completeness_kit import Act, Told, incomplete, told, unseen
from kit import SCRIPTS, State, ask, begun, git, kill, plain, traffic, until

from controller.domain.decision import Where, evidence_of
from controller.embedded import bring_in
from controller.recording import Folder
from controller.settings import load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN_S = 100
NO_COMMIT = "0" * 40
TASK = "Show kelvin as well."
SETTINGS = """\
[repository]
name = "plain"

[service]
name = "plain"
start = ["{python}", "-m", "converter"]
telemetry = "proxy"

[rollout]
steps_percent = [50, 100]
step_requests = 30
step_dwell_ms = 1000
window_ms = 1000
segment_ms = 2000
weight_ttl_ms = 8000
warmup_ms = 200
bake_ms = 500
baseline_ms = 2000
ready_seconds = 30

[judge]
slo_error_ppm = 50000
min_step_requests = 30
"""
KILLED_AT = ("ci.start", "platform.set_weight")  # as soon as it is intended


def prepared(folder: Path) -> State:
    """A repository with its forge, in which git remembers every move of every ref."""
    repo = plain(folder, SETTINGS)
    state = State(repo / ".flyball")
    bring_in(load(repo / "flyball.toml"), repo, Folder(state.folder), allow_dirty=True)
    git(state.forge("plain"), "config", "core.logAllRefUpdates", "always")
    return state


def leaves(state: State) -> list[bytes]:
    with contextlib.closing(sqlite3.connect(f"file:{state.folder / 'log.db'}?mode=ro", uri=True)) as db:
        return [leaf for (leaf,) in db.execute("SELECT leaf FROM entries ORDER BY idx")]


@contextlib.contextmanager
def serving(state: State) -> Iterator[Callable[[], None]]:
    """A controller; called, what it gives kills it without a word and starts another. None lives afterwards."""
    repo, script = state.folder.parent, SCRIPTS / "plain_good.yaml"

    def started() -> subprocess.Popen[bytes]:
        return begun("serve", "--repo", repo, "--script", script, cwd=repo, out=state.folder / "said.txt")

    def again() -> None:
        kill(living.pop())
        living.append(started())

    living = [started()]
    try:
        yield again
    finally:
        kill(living.pop())
        state.end_edge()


def intended(state: State, verb: str, after: int) -> bool:
    return any(entry.kind == "EffectIntended" and entry.body["verb"] == verb for entry in state.entries(after))


async def whole_run(state: State) -> None:
    """One change to production."""
    with serving(state) as dies_and_comes_back:
        until(lambda: state.has("ReleaseConfirmed"), WITHIN_S, "the branch as it is serves")
        before = len(state.entries())
        await ask(state.folder.parent, state, TASK)
        port = state.port("plain")
        assert port is not None
        with traffic(port, state.folder, seconds=200):
            for verb in KILLED_AT:
                until(partial(intended, state, verb, before), WITHIN_S, f"{verb} is intended")
                dies_and_comes_back()
            until(lambda: state.has("DeliveryConfirmed"), WITHIN_S, "the change is confirmed")
            until(lambda: not [*incomplete(told(leaves(state)), ())], WITHIN_S, "every effect has ended")


# --- what the world shows ---------------------------------------------------------------------------------------------


def in_git(state: State) -> Iterator[Act]:
    """Every move of main and of every agent's branch, by git's own reflog, and every pull request."""
    logs = state.forge("plain") / "logs" / "refs" / "heads"
    for path in sorted(path for path in logs.rglob("*") if path.is_file()):
        branch = str(path.relative_to(logs))
        for line in path.read_text().splitlines():
            head, _, rest = line.partition("\t")[0].split(" ", 1)[1].partition(" ")
            assert head != NO_COMMIT, f"{branch} was deleted"
            seconds = int(rest.rpartition("> ")[2].split()[0])
            verb = "forge.land" if branch == "main" else "forge.push"
            yield Act(f"the reflog of {branch}", verb=verb, commit=head, at=iso(seconds + 1))  # cut to whole seconds
    yield from (Act("a pull request", key=pull["key"]) for pull in state.pull_requests("plain").values())


def at_the_edge(state: State, log: Told) -> Iterator[Act]:
    """Every verb that it has carried out, and every weight that users have felt."""
    remembered = json.loads((state.folder / "edge" / "state.json").read_text())
    yield from (Act("the edge", key=key) for key in remembered["done"])
    (service,) = remembered["services"].values()
    for change in service["changes"]:
        if change["cause"] in ("set", "confirmed"):
            key = _announced(log, change["release"], change["weight_percent"], change["cause"])
            yield Act(f"the edge's weight of release {change['release']}", key=key, at=iso(change["at_ms"] / 1000))


def _announced(log: Told, release: int, weight: int, cause: str) -> str:
    """The first key that means this; a name that nobody intended, where there is none."""
    begins = f"weight/plain@production/{release}/" if cause == "set" else f"confirm/plain@production/{release}/"
    found = [key for key in log.intents if key.startswith(begins) and (cause != "set" or f"/{weight}/" in key)]
    return found[0] if found else f"{cause} {release} {weight}"


def in_the_outbox(state: State) -> Iterator[Act]:
    for message in state.messages():
        yield Act("the outbox", key=message["key"], at=datetime.fromisoformat(message["at"]).isoformat())


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def ci_runs(state: State) -> set[str]:
    return {path.parent.name for path in (state.folder / "ci").rglob("spec.json")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> State:
    state = prepared(Path(tmp_path_factory.mktemp("run")) / "plain")
    asyncio.run(whole_run(state))
    return state


def test_nothing_happened_that_no_entry_announced_and_nothing_was_announced_without_an_end(run: State) -> None:
    log = told(leaves(run))
    git_, edge, chat = list(in_git(run)), list(at_the_edge(run, log)), list(in_the_outbox(run))
    assert len(git_) >= 3  # the branch, its pull request, and the landing
    assert len(edge) >= 10
    assert chat
    assert list(incomplete(log, [*git_, *edge, *chat])) == []
    assert unseen(log, "chat.tell", chat) == []
    assert unseen(log, "platform.confirm", edge) == []


def test_ci_has_the_runs_that_were_started_by_somebody_who_said_so(run: State) -> None:
    log = told(leaves(run))
    started = {result["run"] for key, result in log.results.items() if log.intents[key].body["verb"] == "ci.start"}
    assert started == ci_runs(run) != set()


def test_every_call_that_the_gateway_served_is_in_the_record_of_its_turn(run: State) -> None:
    log = told(leaves(run))
    assert log.calls
    assert all(call["result"] for call in log.calls if call["allowed"])
    assert all(call["rules"] for call in log.calls)


def test_every_claim_can_be_looked_up(run: State) -> None:
    wrong = []
    for leaf in leaves(run):
        entry = json.loads(leaf)
        cited = [(claim["evidence"], claim["digest"]) for claim in claims(entry["body"])]
        wrong += [
            (entry["index"], entry["kind"], text) for text, digest in cited if not resolves(run, entry, text, digest)
        ]
    assert wrong == []


def claims(value: Any) -> Iterator[dict[str, Any]]:
    """Every claim of every decision, however deep it lies; references as claims of the same shape."""
    match value:
        case {"evidence": _, "text": _, "digest": _}:
            yield value
        case {"uri": uri, "digest": digest}:
            yield {"evidence": uri, "digest": digest}
        case dict():
            for one in value.values():
                yield from claims(one)
        case list():
            for one in value:
                yield from claims(one)


def resolves(run: State, entry: dict[str, Any], text: str, digest: str | None) -> bool:
    found = evidence_of(text)
    if found is None:
        return False
    if found.where is Where.ENTRY:
        return int(found.name) < int(entry["index"])
    if found.where is Where.BLOB:
        name = found.name.removeprefix("sha256:")
        blobs = [path for path in (run.folder / "blobs").rglob(f"*{name[2:]}") if path.is_file()]
        return digest == found.name and len(blobs) == 1
    return git(run.forge("plain"), "cat-file", "-t", found.name) == "commit"
