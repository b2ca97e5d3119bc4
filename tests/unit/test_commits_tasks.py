"""Whose task a push is held to: the session's behind it, and that of everybody who lent it authority."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from test_desk_engine import AUTHOR, AUTHORITY, BASE, DELIVERY, HEAD

from controller.adapters.grants_paths import CommitPaths
from controller.domain.ids import Branch, Commit, SessionId, StreamId, delivery_stream, session_stream
from controller.domain.verbs import PushBranch
from controller.errors import PathRefused
from controller.ports import Badge, Forge, RepositoryConfig, Touched
from controller.sim.world import MAIN, SHOP


class Trees:
    """Of a forge only what is asked here: where a branch is, and what a commit changes."""

    async def tip(self, *_: object) -> Commit:
        return BASE

    async def touched(self, *_: object) -> Touched:
        return Touched(("src/a.py",), ())


class Gate:
    """Knows sessions by name, and which of them somebody has asked for."""

    def __init__(self, *badges: Badge) -> None:
        self.badges = {one.session: one for one in badges}
        self.asked: list[str] = []
        forge: Forge = Trees()  # type: ignore[assignment]
        self.paths = CommitPaths(
            AUTHORITY, forge, {SHOP: RepositoryConfig(SHOP, MAIN, "m", (), ("**",))}, self.badge_of
        )

    async def badge_of(self, session: str) -> Badge | None:
        self.asked.append(session)
        return self.badges.get(session)

    async def push(self, branch: str, subject: StreamId) -> None:
        verb = PushBranch(repository=SHOP, branch=Branch(branch), commit=HEAD, expect=None)
        await self.paths.may_change("author", verb, subject)


async def test_a_lent_task_is_kept_to_and_so_is_the_task_of_whoever_lent_it() -> None:
    session = session_stream(SessionId(AUTHOR.session))
    await Gate(replace(AUTHOR, parent=AUTHOR)).push(AUTHOR.branch, session)
    for narrow in (
        replace(AUTHOR, allowed=("docs/**",)),
        replace(AUTHOR, parent=replace(AUTHOR, allowed=("docs/**",))),
    ):
        with pytest.raises(PathRefused, match=r"src/a\.py"):
            await Gate(replace(AUTHOR, parent=narrow)).push(AUTHOR.branch, session)


@pytest.mark.parametrize(
    ("branch", "session"),
    [
        (f"agent/{DELIVERY}/1", f"{DELIVERY}/1"),
        (f"agent/{DELIVERY}/01", None),
        ("agent/shop-ffffff/1", None),
        (f"other/{DELIVERY}/1", None),
    ],
)
async def test_a_branch_is_a_sessions_by_its_whole_name(branch: str, session: str | None) -> None:
    gate = Gate(replace(AUTHOR, allowed=("docs/**",)))
    with suppress(PathRefused):
        await gate.push(branch, delivery_stream(DELIVERY))
    assert gate.asked == ([session] if session else [])
