"""An agent session, from wherever the log says it is to its end.

The log is the truth: replies, turns and the end are entries, and a run folds them before it does anything. The graph's
checkpoint holds a turn number and a blob id and is believed only where it says what the log says; otherwise it is
deleted, and nothing is lost. A reply that was paid for is never asked for again: it is replayed from its entry, and so
are the contained calls that made the working copy what it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph.state import CompiledStateGraph

from controller.agents.graph import VERSION, build_graph, steps_bound
from controller.agents.notebook import Notebook
from controller.agents.parts import Left, SessionParts
from controller.agents.run import Place, Run
from controller.agents.workbench import Workbench
from controller.domain.events import SessionResumed
from controller.domain.ids import SessionId
from controller.domain.session import Session

Saver = BaseCheckpointSaver[str]
Checkpoints = Callable[[], AbstractAsyncContextManager[Saver]]
App = CompiledStateGraph[Place, Run, Place, Place]


def checkpoints_in(path: Path) -> Checkpoints:
    """Checkpoints in an SQLite file of their own, which may be deleted at any time."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Saver]:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await saver.setup()
            yield saver

    return opened


class SessionRunner:
    def __init__(self, parts: SessionParts, checkpoints: Checkpoints | None = None) -> None:
        """`checkpoints=None`: none are kept, and every run begins from the log."""
        self._parts = parts
        self._checkpoints = checkpoints
        self._graph = build_graph(parts.bounds, parts.retry_wait_s)

    async def run(self, session: SessionId) -> Left:
        """Drive the session until it ends, is stopped, or turns out to be another worker's.

        Raises Unavailable when not even its end could be recorded: run it again later. A session that has ended
        stays as it is.
        """
        book = Notebook(Session(session), self._parts.log, self._parts.seals, self._parts.caller)
        await book.read()
        if book.state.ended is not None:
            return Left.ENDED
        if book.needs_newer:
            return Left.PARKED
        run = Run(self._parts, book, Workbench(session, book.started, self._parts))
        await run.may_go_on()
        if run.left is None:
            await self._drive(run)
        return run.left or Left.ENDED

    async def _drive(self, run: Run) -> None:
        try:
            if self._checkpoints is None:
                await self._go(run, self._graph.compile(), None)
            else:
                async with self._checkpoints() as saver:
                    await self._go(run, self._graph.compile(checkpointer=saver), saver)
        finally:
            await run.bench.close()
        if run.notebook.state.ended is not None:
            await self._parts.workspaces.discard(run.notebook.state.id)

    async def _go(self, run: Run, app: App, saver: Saver | None) -> None:
        """`saver=None`: no checkpoints."""
        state = run.notebook.state
        thread = f"{state.id}@{VERSION}"
        config: RunnableConfig = {
            "configurable": {"thread_id": thread},
            "recursion_limit": steps_bound(self._parts.bounds),
        }
        agrees = saver is not None and await _agrees(app, config, run)
        if saver is not None and not agrees:
            await saver.adelete_thread(thread)
        if not await _taken_up(run, from_checkpoint=agrees):
            return
        start = None if agrees else run.place()
        await app.ainvoke(start, config, context=run, durability="sync" if saver is not None else None)
        if saver is not None and run.notebook.state.ended is not None:
            await saver.adelete_thread(thread)


async def _agrees(app: App, config: RunnableConfig, run: Run) -> bool:
    """The checkpoint stands exactly where the log does."""
    kept = await app.aget_state(config)
    return kept.next == (run.next_stop(),) and kept.values == run.place()


async def _taken_up(run: Run, *, from_checkpoint: bool) -> bool:
    """Say that a session under way is taken up again. False: another worker has done so."""
    book = run.notebook
    if book.state.version <= 1:
        return True
    waits = "a paid reply waits to be acted on" if book.waiting else "the model is due"
    if book.state.reserved is not None:
        waits = "a call was reserved and never answered; its reservation stays"
    if rejected := await book.append(SessionResumed(turn=book.turn, from_checkpoint=from_checkpoint, reason=waits)):
        await run.accept(rejected)
        return False
    return True
