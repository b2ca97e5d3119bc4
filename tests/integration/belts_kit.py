"""Belts over real parts: log, seals, grants, gate, git forge and CI. What the desk decides is tested elsewhere."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path

import pygit2

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, HandClock, sample

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_local import LocalCi
from controller.adapters.git import GitForge
from controller.adapters.git_export import export
from controller.adapters.git_store import Identity, create_bare, ref_value
from controller.adapters.git_workspaces import GitWorkspaces
from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import CommitPaths
from controller.adapters.sandbox import Sandbox
from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    Repository,
    StreamId,
    author_branch,
    client_session,
    delivery_stream,
    session_of,
)
from controller.gate import EffectGate
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Badge, Receipt, RepositoryConfig, ToolResult
from controller.requests import AgentRequests
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Served
from tools.belt import Call, Tool

SHOP, MAIN = Repository("shop"), Branch("main")
DELIVERY = DeliveryId("shop-1a2b3c")
SESSION = session_of(DELIVERY, 1)
OWN = author_branch(DELIVERY, 1)
SERVED = (Served(repository=SHOP, branch=MAIN, environments=("production",)),)
FILES = {
    "shop.py": "def total(prices):\n    return sum(prices)\n",
    "test_shop.py": "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n\n\n"
    "def test_wrong():\n    assert total([2]) == 3, 'two is not three'\n",
}
RERUN = '\n  - name: rerun\n    tools: [rerun_ci, ci.start]\n    repositories: ["*"]\n'
SOMEBODY = Identity("Somebody", "somebody@example.org")
PAGE = 2_000
BEST = asyncio.run(Sandbox.best())


class Belts:
    """`begun` puts one session of the author into its first state, with a workspace of its own."""

    def __init__(self, folder: Path, *, bounds: Bounds | None = None) -> None:
        self.clock = HandClock()
        self.log = SqliteLog(":memory:", self.clock, inline=True)
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False))
        self.rules = _rules(folder / "rules")
        self.authority = Authority(SERVED, self.rules)
        self.forge = GitForge(folder / "forge", self.clock)
        self.workspaces = GitWorkspaces(folder / "workspaces", self.forge.store)
        self.base = self.commit(MAIN, FILES)
        self.ci = LocalCi(
            folder / "ci",
            lambda name, commit, dest: export(self.forge.store, name, commit, dest),
            BEST,
            {SHOP: CiConfig(environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),))},
        )
        self.repositories = {SHOP: RepositoryConfig(SHOP, MAIN, "scripted", protected=(), allowed=("**",))}
        self.gate = EffectGate(
            log=self.log,
            clock=self.clock,
            grants=RbacGrants(self.authority),
            hands={"forge": self.forge, "ci": self.ci},
            worker="worker-1",
            clean=self.seals.redactor.clean_text,
            paths=CommitPaths(self.authority, self.forge, self.repositories, self.badge_of),
        )
        self.requests = AgentRequests(
            log=self.log,
            seals=self.seals,
            policy=lambda: Digest(self.authority.digest),
            bounds=bounds or Bounds(),
        )

    # --- who ---------------------------------------------------------------------------------------------------------

    async def badge_of(self, session: str) -> Badge | None:
        """As the session's own, whoever it is: the grants and the paths are what is decided here."""
        return replace(self.author(), session=session)

    def author(self) -> Badge:
        return Badge(
            session=SESSION,
            role="author",
            delivery=DELIVERY,
            repository=SHOP,
            branch=OWN,
            base=self.base,
            allowed=("**",),
            protected=(),
            on_behalf_of="person:0123456789ab",
        )

    def visitor(self, role: str, *scopes: str) -> Badge:
        session = client_session("helper", 1)
        return Badge(
            session=session,
            role=role,
            delivery="client.helper",
            repository=SHOP,
            branch=Branch("agent/client.helper/1"),
            base=self.base,
            allowed=("**",),
            protected=(),
            on_behalf_of="person:0123456789ab",
            scopes=frozenset(scopes),
        )

    async def begun(self) -> Badge:
        """The author's session, with a workspace and its delivery."""
        badge = self.author()
        await self.workspaces.create(SESSION, SHOP, self.base)
        started = sample(
            e.SessionStarted, delivery=DELIVERY, role="author", repository=SHOP, base=self.base, branch=OWN
        )
        await self.add(badge.stream, started)
        return badge

    async def visited(self, role: str, *scopes: str) -> Badge:
        badge = self.visitor(role, *scopes)
        started = sample(
            e.ClientSessionStarted, client="helper", role=role, repository=SHOP, base=self.base, branch=badge.branch
        )
        await self.add(badge.stream, started)
        return badge

    # --- what has happened -------------------------------------------------------------------------------------------

    async def add(self, stream: StreamId, *events: e.Event) -> None:
        row = await self.log.stream(stream)
        drafts = [Draft(stream, event) for event in events]
        kept = await self.log.append(drafts, expect={stream: row.version if row else 0}, by=BY)
        assert isinstance(kept, Receipt), kept

    async def asked(
        self, delivery: DeliveryId = DELIVERY, repository: Repository = SHOP, cause: e.Cause = e.Cause.TASK
    ) -> None:
        """A delivery that has been asked for and accepted."""
        request = e.TaskRequested(
            delivery=delivery,
            repository=repository,
            branch=MAIN,
            task=await self.seals.seal("Add a total\n\nas discussed"),
            asked_by="person:0123456789ab",
            source="cli",
            event_id=delivery,
            cause=cause,
            root=delivery,
            depth=0,
        )
        await self.add(delivery_stream(delivery), request, sample(e.TaskAccepted))

    async def merged(self, delivery: DeliveryId = DELIVERY, cause: e.Cause = e.Cause.TASK) -> None:
        """The same, landed on main."""
        await self.asked(delivery, cause=cause)
        await self.proposed(delivery, self.base, self.base, run="run-1")
        await self.add(
            delivery_stream(delivery),
            await self.report("run-1", self.base),
            sample(e.RiskClassified),
            sample(e.Cleared, head=self.base),
            sample(e.Merged, commit=self.base, head=self.base, base=self.base),
        )

    async def proposed(self, delivery: DeliveryId, head: Commit, tested: Commit, *, run: str) -> None:
        title = await self.seals.seal("Add a total")
        branch = author_branch(delivery, 1)
        await self.add(
            delivery_stream(delivery),
            sample(e.ChangeAuthored, base=self.base, head=head, branch=branch, iteration=1, summary=None),
            sample(e.PullRequestOpened, number=1, head=head, title=title),
            sample(e.CiStarted, head=head, base=self.base, tested=tested, run=run),
        )

    async def report(self, run: str, head: Commit, *, log: str = "all well\n", failed: str = "") -> e.CiReported:
        failure = sample(e.TestFailure, test=failed, verdict="unknown", message=await self.seals.seal("it is wrong"))
        report: e.CiReported = sample(
            e.CiReported,
            head=head,
            base=self.base,
            tested=head,
            run=run,
            passed=not failed,
            failures=(failure,) if failed else (),
            log=await self.seals.seal(log),
        )
        return report

    def commit(self, branch: Branch, files: Mapping[str, str]) -> Commit:
        """A commit on a branch, past every gate: somebody's own push."""
        store = self.forge.store
        if not store.exists(SHOP):
            create_bare(store.path(SHOP), MAIN)
        repository = store.open(SHOP)
        parent = ref_value(repository, f"refs/heads/{branch}")
        index = pygit2.Index()
        if parent is not None:
            index.read_tree(repository[parent].peel(pygit2.Tree))
        for path, text in files.items():
            blob = repository.create_blob(text.encode())
            index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
        who, tree = SOMEBODY.signed(self.clock.now()), index.write_tree(repository)
        commit = repository.create_commit(None, who, who, "by hand", tree, [parent] if parent else [])
        repository.references.create(f"refs/heads/{branch}", commit, force=True)
        return Commit(str(commit))


def called(tools: list[Tool], name: str, badge: Badge, index: int = 0, **arguments: object) -> Awaitable[ToolResult]:
    """A call that the desk has allowed."""
    tool = next(one for one in tools if one.definition.name == name)
    return tool.run(Call(badge, arguments, 0, index))


def _rules(folder: Path) -> Path:
    """The rules that Flyball ships, and besides an author that may start CI again."""
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, folder / part)
    author = folder / "grants" / "author.yaml"
    author.write_text(author.read_text() + RERUN)
    return folder
