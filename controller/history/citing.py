"""What a decision may cite: entries as they stand in the log, and the model whose work it rests on.

What is cited can be looked up by whoever holds the log, its blobs and the repository, and by nothing else: never "the
status", never "the settings".
"""

from __future__ import annotations

from controller.domain.decision import Maker, Reference, at_commit, at_entry, in_blob
from controller.domain.entry import Entry
from controller.domain.events import Event, SessionEnded, SessionStarted
from controller.domain.ids import SessionId, StreamId, digest_bytes, session_stream
from controller.domain.sealed import Sealed
from controller.domain.session import fold
from controller.errors import Permanent
from controller.ports import Blocked, Log, Seals

ERASED = "(this text has been erased)"


async def newest(log: Log, stream: StreamId) -> str:
    """The stream as it stands: its newest entry. Raises Permanent for one that has none."""
    row = await log.stream(stream)
    entries = await log.read(stream, row.version - 1) if row else []
    if not entries:
        raise Permanent(f"{stream} has no entry that a decision could cite", "Run `flyball log verify`")
    return at_entry(entries[0].index)


async def newest_of(log: Log, stream: StreamId, *kinds: type[Event]) -> str:
    """The newest entry of one of these kinds; without one, the stream as it stands. Raises Permanent as `newest`."""
    found = last_of(await log.read(stream), *kinds)
    return at_entry(found.index) if found else await newest(log, stream)


def last_of(entries: list[Entry], *kinds: type[Event]) -> Entry | None:
    """None: there is none of these kinds."""
    return next((entry for entry in reversed(entries) if isinstance(entry.event, kinds)), None)


async def maker_of(log: Log, session: SessionId) -> Maker:
    """The model behind a session, and what it was given. Raises Permanent for a session that nobody has started."""
    entries = await log.read(session_stream(session))
    state = fold(session, entries)
    started = state.started
    if started is None:
        raise Permanent(f"session {session} made a change and was never started", "Run `flyball log verify`")
    return Maker(
        agent=started.role,
        model=started.model,
        version=state.replies[-1].model if state.replies else started.model,
        label=started.label.value,
        prompt_digest=started.prompt_digest,
        context=_context(entries, started),
        session=session,
        iteration=started.iteration,
    )


def _context(entries: list[Entry], started: SessionStarted) -> tuple[Reference, ...]:
    first = entries[0]
    given = (
        Reference(uri=at_entry(first.index), digest=digest_bytes(first.leaf)),
        Reference(uri=in_blob(started.prompt.digest), digest=started.prompt.digest),
        Reference(uri=at_commit(started.base)),
    )
    ended = last_of(entries, SessionEnded)
    if ended is None or not isinstance(ended.event, SessionEnded):
        return given
    return (*given, Reference(uri=in_blob(ended.event.transcript), digest=ended.event.transcript))


# --- words of others --------------------------------------------------------------------------------------------------


def in_clear(block: Blocked) -> str:
    """What stands in the way, without the words of whoever put it there: those stand with the stop itself."""
    return f"{block.scope} is {block.reason.partition(':')[0]}"


async def opened(seals: Seals, sealed: Sealed | None) -> str:
    """For people and prompts. Empty: there was nothing; erased text says so."""
    if sealed is None:
        return ""
    try:
        return await seals.open(sealed)
    except Permanent:
        return ERASED
