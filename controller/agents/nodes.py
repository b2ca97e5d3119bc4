"""The three nodes of a session. Each looks at the log, does one thing, and records it before it returns."""

from __future__ import annotations

from langgraph.errors import NodeError, NodeTimeoutError
from langgraph.runtime import Runtime
from langgraph.types import Command

from controller.agents.conversation import Sense, read_reply, sense_of, write_reply
from controller.agents.course import KEEPS_ITS_WORK, Act, Ask, End
from controller.agents.run import Place, Run
from controller.agents.spending import preconditions, request_body, too_large, worst_case
from controller.agents.thinking import joined, parted
from controller.agents.transcript import transcript
from controller.domain.events import ModelCallReserved, ReplyRecorded, SessionEnded, SessionStarted, TurnRecorded
from controller.domain.ids import MicroUsd, SessionId, digest_bytes
from controller.domain.money import cost_of
from controller.errors import Permanent, Unavailable
from controller.ports import Committed, Denied, ModelReply, ModelRequest
from controller.provenance.trailers import session_trailers, title_of

REASON_CHARS = 600
NO_PLACE = -1  # turn and index of what is decided after the last turn
INEXACT = "a recorded reply held a secret, which the log does not keep: what it did cannot be done again"

# --- ask -------------------------------------------------------------------------------------------------------------


async def ask(state: Place, *, runtime: Runtime[Run]) -> Place:  # noqa: ARG001 - the log says it
    """Reserve what the next call may cost at worst, make it, and record its answer before anything is done with it."""
    run = runtime.context
    if await run.is_due(Ask):
        await _in_order(run)
        if run.unrecorded is None:
            await _call(run, await run.request())
        if run.unrecorded is not None:
            await _record(run, *run.unrecorded)
    return run.place()


async def _call(run: Run, request: ModelRequest) -> None:
    """A reservation whose call is never answered stays: it may have been paid for."""
    book, bounds = run.notebook, run.parts.bounds
    body = request_body(request)
    reserved = worst_case(request.model, len(body), request.max_tokens)
    if why := too_large(len(body), reserved, bounds):
        run.ending = End("budget", why)
        return
    event = ModelCallReserved(turn=request.turn, micro_usd=reserved, request_digest=digest_bytes(body))
    guards = preconditions(book.state.id, book.started, reserved, bounds, run.parts.clock.now())
    if rejected := await book.append(event, guards):
        await run.accept(rejected)
        return
    run.tell("asking")
    run.unrecorded = (await run.parts.model.reply(request), reserved)


async def _record(run: Run, reply: ModelReply, reserved: MicroUsd) -> None:
    book = run.notebook
    text, thinking = _storable(reply)
    event = ReplyRecorded(
        turn=book.turn,
        reply=digest_bytes(text.encode()),
        reply_sealed=await run.parts.seals.seal(text),
        stop_reason=reply.stop_reason,
        usage=reply.usage,
        cost_micro_usd=cost_of(book.started.model, reply.usage),
        reserved_micro_usd=reserved,
        model=reply.model,
        label=reply.label,
        request_id=reply.request_id,
        thinking=digest_bytes(thinking.encode()) if thinking else None,
        thinking_sealed=await run.parts.seals.seal(thinking) if thinking else None,
    )
    if rejected := await book.append(event):
        await run.accept(rejected)
    else:
        book.heard(joined(read_reply(text), thinking) if thinking else read_reply(text))
    run.unrecorded = None


def _storable(reply: ModelReply) -> tuple[str, str | None]:
    """What it said, and what it thought. None: it returned no thinking."""
    try:
        said, thinking = parted(reply)
        return write_reply(said), thinking
    except ValueError as error:
        raise Permanent(f"reply {reply.request_id} holds what no log can store: {error}") from error


async def _in_order(run: Run) -> None:
    """The working copy as the recorded turns made it. Raises Permanent when they cannot be gone through again."""
    book, bench = run.notebook, run.bench
    if book.inexact and not bench.in_order:
        raise Permanent(INEXACT, "Ask for the change again, without a secret in it")
    await bench.ready(book.state, book.turns)


# --- act -------------------------------------------------------------------------------------------------------------


async def act(state: Place, *, runtime: Runtime[Run]) -> Place:  # noqa: ARG001 - the log says it
    """Carry out the calls of the waiting reply, in order, and record what came of them together."""
    run = runtime.context
    if not await run.is_due(Act):
        return run.place()
    book, bench = run.notebook, run.bench
    await book.reply()
    await _in_order(run)
    await bench.records(book.turn)  # whatever an attempt that broke off has left there
    if await _carry_out(run):
        event = TurnRecorded(
            turn=book.turn,
            reply=book.state.replies[-1].reply,
            calls=await bench.records(book.turn),
            tainted=run.parts.desk.tainted(book.state.id),
        )
        if rejected := await book.append(event):
            await run.accept(rejected)
        else:
            bench.in_order = True
    return run.place()


async def _carry_out(run: Run) -> bool:
    """False: the turn breaks off, unrecorded. Stops and other workers are looked for before every call."""
    book, reply = run.notebook, await run.notebook.reply()
    calls = reply.calls if sense_of(reply)[0] is Sense.CALLS else ()
    run.tell("acting", tuple(call.name for call in calls))
    for call in calls:
        if not await run.is_due(Act):
            return False
        if book.state.refusals >= run.parts.bounds.session_refusals:
            break
        await run.bench.call(book.turn, call)
    return True


# --- finish ----------------------------------------------------------------------------------------------------------


async def finish(state: Place, *, runtime: Runtime[Run]) -> Place:  # noqa: ARG001 - the log says it
    """Commit what was recorded, if this end keeps it, and end the session."""
    run = runtime.context
    ending = run.course()
    if not isinstance(ending, End):
        return run.place()
    ending, committed = await _kept(run, ending)
    if rejected := await run.notebook.append(await _ended(run, ending, committed)):
        await run.accept(rejected)
    else:
        run.tell("ended", outcome=ending.outcome)
    return run.place()


async def _kept(run: Run, ending: End) -> tuple[End, Committed | None]:
    """A stalled session whose working copy is in disorder keeps nothing: what was not recorded is not committed."""
    if ending.outcome not in KEEPS_ITS_WORK or (ending.outcome == "stalled" and not run.bench.in_order):
        return ending, None
    book = run.notebook
    message = commit_message(_last_words(run), book.started, book.state.id)
    try:
        committed = await run.bench.commit(message, book.state, book.turns, book.worked_at)
    except Permanent as error:
        return End("failed", error.message[:REASON_CHARS]), None
    if committed is not None:
        may = await run.parts.desk.may_commit(book.state.id, committed.files, turn=NO_PLACE, index=NO_PLACE)
        if isinstance(may, Denied):
            return End("failed", f"{may.reason} (rule {', '.join(may.rules)})"[:REASON_CHARS]), None
    if committed is None and ending.outcome == "done":
        return End("no_change", "the model finished and had changed nothing"), None
    return ending, committed


async def _ended(run: Run, ending: End, committed: Committed | None) -> SessionEnded:
    state, started = run.notebook.state, run.notebook.started
    words = _last_words(run)
    return SessionEnded(
        outcome=ending.outcome,
        reason=ending.reason,
        head=committed.head if committed else None,
        files=committed.files if committed else (),
        lines_changed=committed.lines_changed if committed else 0,
        turns=len(state.turns),
        cost_micro_usd=state.cost_micro_usd,
        transcript=await run.parts.blobs.put(transcript(state, started)),
        tainted=state.tainted,
        summary=await run.parts.seals.seal(words) if words else None,
    )


def _last_words(run: Run) -> str:
    turns = run.notebook.turns
    return turns[-1].reply.text if turns else ""


def commit_message(summary: str, started: SessionStarted, session: SessionId) -> str:
    """One line of the model's own words; every other line is written by code, so no trailer can be smuggled in."""
    title = "".join(char for char in title_of(summary) if char.isprintable())
    return f"{title}\n\n" + "\n".join(session_trailers(started, session, None)) + "\n"


# --- when a node breaks off ------------------------------------------------------------------------------------------


async def broke_off(state: Place, error: NodeError, runtime: Runtime[Run]) -> Command[str]:  # noqa: ARG001 - the log says it
    """Retries are used up, or would not help: the session ends and says why. The unforeseen is raised as it is."""
    match error.error:
        case Unavailable(message=message):
            runtime.context.ending = End("stalled", message[:REASON_CHARS])
        case NodeTimeoutError():
            runtime.context.ending = End("stalled", f"{error.node} took longer than its time-out")
        case Permanent() as permanent:
            runtime.context.ending = End("failed", str(permanent)[:REASON_CHARS])
        case unforeseen:
            raise unforeseen
    return Command(goto="finish")
