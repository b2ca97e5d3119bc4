"""The gate decides every path of a commit on git's own trees: real git, real grants, and commits made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pygit2
import pytest
from belts_kit import DELIVERY, MAIN, OWN, SESSION, SHOP, SOMEBODY, Belts
from pygit2.enums import FileMode

from controller.adapters.git_store import ref_value
from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import CommitPaths
from controller.domain import events as e
from controller.domain.decision import Claim, decide
from controller.domain.ids import (
    Branch,
    Commit,
    EffectKey,
    StreamId,
    delivery_stream,
    effect_stream,
    queue_stream,
    session_stream,
)
from controller.domain.verbs import LandCommit, PushBranch
from controller.errors import PathRefused
from controller.gate import EffectGate
from controller.ports import Badge, Done, Outcome

BLOB, EXECUTABLE, LINK, MODULE = FileMode.BLOB, FileMode.BLOB_EXECUTABLE, FileMode.LINK, FileMode.COMMIT
Edit = dict[str, tuple[str, FileMode] | None]
WHY = decide(
    "Push it?",
    "push",
    over={"wait": "it is ready"},
    because=(Claim(text="it was asked for", evidence="log#0"),),
    would_change="a stop",
    fallback="nothing lands",
    rules=("test/always",),
)


class Bench(Belts):
    """`allowed`: of the session's task. `protected`: of the repository."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repositories = {SHOP: replace(self.repositories[SHOP], protected=("ci/**", "flyball.toml"))}
        self.allowed: tuple[str, ...] = ("**",)
        self.sessions = {SESSION}
        self.gate = EffectGate(
            log=self.log,
            clock=self.clock,
            grants=RbacGrants(self.authority),
            hands={"forge": self.forge},
            worker="w1",
            paths=CommitPaths(self.authority, self.forge, self.repositories, self.badge_of),
        )

    async def badge_of(self, session: str) -> Badge | None:
        return replace(self.author(), allowed=self.allowed) if session in self.sessions else None

    def made(self, edit: Edit, on: Commit | None = None) -> Commit:
        repository = self.forge.store.open(SHOP)
        parent = on or self.base
        index = pygit2.Index()
        index.read_tree(repository[parent].peel(pygit2.Tree))
        for path, entry in edit.items():
            if entry is None:
                index.remove(path)
            elif entry[1] == MODULE:
                index.add(pygit2.IndexEntry(path, pygit2.Oid(hex=self.base), MODULE))
            else:
                index.add(pygit2.IndexEntry(path, repository.create_blob(entry[0].encode()), entry[1]))
        who = SOMEBODY.signed(self.clock.now())
        made = repository.create_commit(None, who, who, "a change", index.write_tree(repository), [parent])
        return Commit(str(made))

    async def push(
        self, commit: Commit, *, agent: str = "author", subject: StreamId | None = None, branch: Branch = OWN
    ) -> Outcome:
        verb = PushBranch(repository=SHOP, branch=branch, commit=commit, expect=None)
        key, about = EffectKey(f"push/{commit}/{agent}"), subject or delivery_stream(DELIVERY)
        return await self.gate.act(agent, verb, key=key, decision=WHY, subject=about)

    async def land(self, commit: Commit) -> Outcome:
        verb = LandCommit(repository=SHOP, branch=MAIN, expect=self.base, commit=commit, pull_requests=())
        subject = queue_stream(SHOP, MAIN)
        return await self.gate.act("merger", verb, key=EffectKey(f"land/{commit}"), decision=WHY, subject=subject)

    def at(self, branch: Branch) -> Commit | None:
        return ref_value(self.forge.store.open(SHOP), f"refs/heads/{branch}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


NEVER: list[tuple[str, Edit, str]] = [
    ("a workflow", {".github/workflows/ci.yml": ("on: push\n", BLOB)}, "path-never-granted"),
    ("a grant", {"rbac/grants/author.yaml": ("role: author\n", BLOB)}, "path-never-granted"),
    ("orders for agents", {"docs/AGENTS.md": ("Obey.\n", BLOB)}, "path-never-granted"),
    ("an agent's settings", {".claude/settings.json": ("{}", BLOB)}, "path-never-granted"),
    ("git's attributes", {"src/.gitattributes": ("* filter=x\n", BLOB)}, "path-never-granted"),
    ("a key", {"deploy/id_ecdsa": ("x", BLOB)}, "path-never-granted"),
    ("a protected file", {"ci/run": ("true\n", BLOB)}, "protected-path"),
    ("a protected file in capitals", {"CI/run": ("true\n", BLOB)}, "protected-path"),
    ("a link", {"src/out": ("/etc/passwd", LINK)}, "commit/links"),
    ("a submodule", {"src/sub": ("", MODULE)}, "commit/submodules"),
    ("a name in no spelling", {"src/a:b": ("x", BLOB)}, "path/characters"),
]


@pytest.mark.parametrize(("edit", "rule"), [case[1:] for case in NEVER], ids=[case[0] for case in NEVER])
async def test_such_a_commit_moves_no_branch_whoever_pushes_it(bench: Bench, edit: Edit, rule: str) -> None:
    for subject in (delivery_stream(DELIVERY), session_stream(SESSION)):
        with pytest.raises(PathRefused) as refused:
            await bench.push(bench.made({"src/a.py": ("x = 1\n", BLOB), **edit}), subject=subject)
        assert refused.value.rules == (rule,)
    assert bench.at(OWN) is None
    assert [entry async for entry in bench.log.scan()] == []


async def test_its_twin_without_that_path_is_pushed_and_says_what_was_decided(bench: Bench) -> None:
    bench.allowed = ("src/**", "docs/**")
    commit = bench.made({"src/a.py": ("x = 1\n", BLOB), "docs/agents.txt": ("x", BLOB)})
    assert isinstance(await bench.push(commit), Done)
    assert bench.at(OWN) == commit
    intent = (await bench.log.read(effect_stream(EffectKey(f"push/{commit}/author"))))[0].event
    assert isinstance(intent, e.EffectIntended)
    assert intent.decision.claims[-1].text == "decided on git's own trees: 2 paths inside src/**, docs/**"


async def test_both_ends_of_a_renaming_and_a_change_of_mode_are_decided(bench: Bench) -> None:
    bench.allowed = ("src/**",)
    away = bench.made({"shop.py": None, "src/shop.py": ("def total(prices):\n    return sum(prices)\n", BLOB)})
    with pytest.raises(PathRefused, match=r"shop\.py may not be changed"):
        await bench.push(away)
    mode = bench.made({"shop.py": ("def total(prices):\n    return sum(prices)\n", EXECUTABLE)})
    with pytest.raises(PathRefused, match=r"shop\.py may not be changed"):
        await bench.push(mode)


async def test_what_one_commit_adds_and_the_next_takes_away_is_decided_too(bench: Bench) -> None:
    first = bench.made({"src/a.py": ("x = 1\n", BLOB), "ci/run": ("true\n", BLOB)})
    with pytest.raises(PathRefused, match="ci/run"):
        await bench.push(bench.made({"ci/run": None}, on=first))


async def test_a_path_outside_the_task_is_refused_for_the_loop_as_for_the_session(bench: Bench) -> None:
    bench.allowed = ("src/**",)
    commit = bench.made({"docs/a.md": ("x", BLOB)})
    for subject in (delivery_stream(DELIVERY), session_stream(SESSION)):
        with pytest.raises(PathRefused) as refused:
            await bench.push(commit, subject=subject)
        assert refused.value.rules == ("outside-the-task",)


async def test_a_session_that_stands_no_more_pushes_nothing(bench: Bench) -> None:
    bench.sessions = set()
    with pytest.raises(PathRefused, match="stands no more"):
        await bench.push(bench.made({"src/a.py": ("x = 1\n", BLOB)}), subject=session_stream(SESSION))


async def test_a_landing_is_decided_by_what_it_changes_on_the_branch(bench: Bench) -> None:
    with pytest.raises(PathRefused) as refused:
        await bench.land(bench.made({"flyball.toml": ("[test]\n", BLOB)}))
    assert refused.value.rules == ("protected-path",)
    assert bench.at(MAIN) == bench.base
    commit = bench.made({"src/a.py": ("x = 1\n", BLOB)})
    assert isinstance(await bench.land(commit), Done)
    assert bench.at(MAIN) == commit


async def test_a_revert_has_no_task_and_keeps_to_what_the_repository_protects(bench: Bench) -> None:
    bench.sessions = set()
    good, bad = bench.made({"shop.py": None}), bench.made({"ci/run": ("true\n", BLOB)})
    assert isinstance(await bench.push(good, agent="responder"), Done)
    with pytest.raises(PathRefused):
        await bench.push(bad, agent="responder", branch=Branch(f"agent/{DELIVERY}/2"))


async def test_a_change_of_five_thousand_files_is_the_bound(bench: Bench) -> None:
    many: Edit = {f"src/part_{number}.py": ("x = 1\n", BLOB) for number in range(5_001)}
    with pytest.raises(PathRefused, match="too many files"):
        await bench.push(bench.made(many))
    some: Edit = dict(list(many.items())[:1_200])
    assert isinstance(await bench.push(bench.made(some)), Done)
