"""The loop is a table. Read this first.

A delivery is in one phase; the table says which step looks after that phase, and `NEXT` (controller/domain/delivery.py)
says which phases may follow. The LangGraph graph is generated from the two, and so are those of the merge queue and of
the rollout, each from its own small table. A step takes seconds: it reads, decides, acts through the gate, and returns
the entries to append; `[]` means wait. Long work (an agent's session, a CI run, a rollout) is a stream or a system of
its own that a later wake reads.

No state is carried here: every wake folds the stream from the log, and an append that lost a race is simply thrown
away.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Generic, Protocol, TypedDict, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import TimeoutPolicy

from controller.canary.table import AGENTS as ROLLOUT_AGENTS
from controller.canary.table import TABLE as ROLLOUT_TABLE
from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain import queue as queues
from controller.domain import rollout as rollouts
from controller.domain.delivery import NEXT, Delivery, Phase
from controller.domain.entry import Caller, Draft, Entry
from controller.domain.ids import CONTROL, DeliveryId, StreamId, delivery_stream, kind_of, people_stream, rest_of
from controller.domain.queue import QUEUE_NEXT, Queue
from controller.domain.rollout import ROLLOUT_NEXT, Rollout
from controller.errors import FlyballError, Permanent, Refused, Temporary
from controller.ports import Ports, Rejected
from controller.queue.table import TABLE as QUEUE_TABLE
from controller.steps.accept import accept
from controller.steps.author import author
from controller.steps.check import check
from controller.steps.classify import classify
from controller.steps.clear import clear
from controller.steps.deploy import deploy
from controller.steps.follow import follow
from controller.steps.hand_over import hand_over
from controller.steps.merge import merge
from controller.steps.propose import propose
from controller.steps.restore import restore
from controller.steps.unstick import unstick

Step = Callable[[Delivery, Ports], Awaitable[list[Draft]]]

TABLE: dict[Phase, Step] = {
    #   phase             step          agent identity
    Phase.NEW: accept,
    Phase.ACCEPTED: author,
    Phase.AUTHORED: propose,
    Phase.PROPOSED: check,
    Phase.CHECKED: classify,
    Phase.CLASSIFIED: clear,
    Phase.CLEARED: merge,
    Phase.MERGED: deploy,
    Phase.DEPLOYING: follow,
    Phase.DEPLOYED: follow,
    Phase.REGRESSED: restore,
    Phase.ROLLED_BACK: hand_over,
    Phase.STUCK: unstick,
}

# Under whose identity each of them writes what it decided. What it does to the world, the gate decides for the agent
# that it names.
AGENTS: dict[Phase, str] = {
    Phase.NEW: "intake",
    Phase.ACCEPTED: "author",
    Phase.AUTHORED: "author",
    Phase.PROPOSED: "checker",
    Phase.CHECKED: "reviewer",
    Phase.CLASSIFIED: "merger",
    Phase.CLEARED: "merger",
    Phase.MERGED: "releaser",
    Phase.DEPLOYING: "observer",
    Phase.DEPLOYED: "observer",
    Phase.REGRESSED: "responder",
    Phase.ROLLED_BACK: "responder",
    Phase.STUCK: "merger",
}


class State(Protocol):
    """What a fold gives: a version, and a phase that is a row of the machine's table."""

    @property
    def version(self) -> int: ...

    @property
    def phase(self) -> Any: ...

    @property
    def failures(self) -> int: ...


S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class Machine(Generic[S]):
    """One kind of driven stream: its table, which phase may follow which, and how it is folded."""

    name: str
    table: Mapping[Any, Callable[[S, Ports], Awaitable[list[Draft]]]]
    next: Mapping[Any, frozenset[Any]]
    agents: Mapping[Any, str]  # under whose identity a row's entries are written
    fold: Callable[[StreamId, list[Entry]], S]


DELIVERY: Machine[Delivery] = Machine(
    "delivery", TABLE, NEXT, AGENTS, lambda stream, entries: deliveries.fold(DeliveryId(rest_of(stream)), entries)
)
QUEUE: Machine[Queue] = Machine("queue", QUEUE_TABLE, QUEUE_NEXT, dict.fromkeys(QUEUE_TABLE, "merger"), queues.fold)
ROLLOUT: Machine[Rollout] = Machine("rollout", ROLLOUT_TABLE, ROLLOUT_NEXT, ROLLOUT_AGENTS, rollouts.fold)
MACHINES: dict[str, Machine[Any]] = {machine.name: machine for machine in (DELIVERY, QUEUE, ROLLOUT)}


class Drive(TypedDict):
    """What a drive carries from node to node: nothing that the log does not hold."""

    stream: StreamId
    state: Any
    moved: bool  # the last step appended something


def edges(machine: Machine[Any]) -> set[tuple[str, str]]:
    """Phase to phase, as `NEXT` has it, between phases that have a step. Ends are END."""
    return {
        (a.value, b.value)
        for a, followers in machine.next.items()
        for b in followers
        if a in machine.table and b in machine.table
    }


def graph_of(machine: Machine[Any]) -> CompiledStateGraph[Drive, Ports, Drive, Drive]:
    """The machine as a LangGraph graph: a node for each row, edges exactly those of `next`.

    No checkpointer: the state is the log.
    """
    graph: StateGraph[Drive, Ports, Drive, Drive] = StateGraph(Drive, context_schema=Ports)
    for phase in machine.table:
        graph.add_node(phase.value, _node(machine, phase), timeout=TimeoutPolicy(run_timeout=STEP_SECONDS))  # type: ignore[call-overload]
    graph.add_conditional_edges(START, _phase, {phase.value: phase.value for phase in machine.table})
    for phase in machine.table:
        followers = {b.value: b.value for b in machine.next[phase] if b in machine.table}
        graph.add_conditional_edges(phase.value, _onward(phase, frozenset(followers)), {**followers, END: END})
    return graph.compile()


STEP_SECONDS = 120.0  # the graph's own net below which every step has its bound from settings
PASSES = 64  # phases that one drive may run through; a longer way takes another wake


def _phase(drive: Drive) -> str:
    return str(drive["state"].phase.value)


def _onward(phase: StrEnum, followers: frozenset[str]) -> Callable[[Drive], str]:
    def onward(drive: Drive) -> str:
        now = _phase(drive)
        return now if drive["moved"] and now != phase.value and now in followers else END

    return onward


def _node(machine: Machine[Any], phase: Any) -> Callable[[Drive, Runtime[Ports]], Awaitable[dict[str, Any]]]:
    async def node(drive: Drive, runtime: Runtime[Ports]) -> dict[str, Any]:
        return await _step(machine, phase, drive, runtime.context)

    return node


async def _step(machine: Machine[Any], phase: Any, drive: Drive, ports: Ports) -> dict[str, Any]:
    """Run one step, append what it returns, fold again. A lost race or nothing to say ends the drive."""
    state, stream = drive["state"], drive["stream"]
    drafts = await _drafts(machine, phase, state, stream, ports)
    if not drafts:
        return {"moved": False}
    expect = {draft.stream: 0 for draft in drafts}
    if CONTROL in expect:  # a freeze stands from the same instant as the entry that calls for it
        row = await ports.log.stream(CONTROL)
        expect[CONTROL] = row.version if row else 0
    expect[stream] = state.version
    by = Caller(f"agent:{machine.agents[phase]}", ports.caller.policy, getattr(state, "requested_by", None) or None)
    kept = await ports.log.append(drafts, expect=expect, by=by)
    if isinstance(kept, Rejected):
        return {"moved": False}
    after = machine.fold(stream, await ports.log.read(stream))
    return {"moved": True, "state": after}


async def _drafts(machine: Machine[Any], phase: Any, state: Any, stream: StreamId, ports: Ports) -> Sequence[Draft]:
    """What the step says, or that it failed.

    N times in a row, or for good, and the stream is stuck until a person looks.
    """
    step = machine.table[phase]
    try:
        return await asyncio.wait_for(step(state, ports), ports.bounds.step_seconds)
    except (Temporary, TimeoutError) as error:
        words = str(error) or f"{step.__name__} took longer than {ports.bounds.step_seconds} s"
        return _failed(state, stream, step.__name__, words, ports, for_good=False)
    except (Permanent, Refused) as error:
        return _failed(state, stream, step.__name__, str(error), ports, for_good=True)
    except FlyballError as error:
        return _failed(state, stream, step.__name__, str(error), ports, for_good=False)
    except Exception as error:  # noqa: BLE001 - a defect in one step is recorded, and must not stop the other deliveries
        return _failed(state, stream, step.__name__, f"defect: {type(error).__name__}: {error}", ports, for_good=False)


def _failed(state: Any, stream: StreamId, step: str, words: str, ports: Ports, *, for_good: bool) -> list[Draft]:
    attempt = state.failures + 1
    failed = Draft(stream, e.StepFailed(step=step, error=words[:1000], attempt=attempt))
    if not for_good and attempt < ports.bounds.step_attempts:
        return [failed]
    return [failed, *_stuck(state, stream, f"{step}: {words}"[:600])]


def _stuck(state: Any, stream: StreamId, reason: str) -> list[Draft]:
    match state:
        case Delivery() if state.phase is not Phase.STUCK:
            return [Draft(stream, e.Stuck(reason=reason))]
        case Rollout() if state.current is not None and state.phase is rollouts.RolloutPhase.REGRESSED:
            return [Draft(stream, e.RolloutStuck(release=state.releases, reason=reason))]
        case _:
            return []


def backoff_seconds(failures: int) -> float:
    """How long to leave a failing step alone: 1, 2, 4, … at most 60 s."""
    return min(60.0, math.pow(2, max(0, failures - 1)))


@dataclass(frozen=True, slots=True)
class Driven:
    state: Any  # as it stands after the drive
    moved: bool  # something was appended


@cache
def _compiled(name: str) -> CompiledStateGraph[Drive, Ports, Drive, Drive]:
    """One graph a machine: it holds no state, so every loop in this process may run on it."""
    return graph_of(MACHINES[name])


Glance = tuple[int, ...]  # versions of everything that could have ended a wait


class Loop:
    """Drives streams, each by the graph of its kind."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._graphs = {name: _compiled(name) for name in MACHINES}
        self._quiet: dict[StreamId, tuple[Glance, Delivery]] = {}  # deliveries whose last look found nothing to do

    async def drive(self, stream: StreamId) -> Driven:
        """Take a stream as far as it goes now. A wake that finds nothing due never enters the graph."""
        if (same := await self._nothing_due(stream)) is not None:
            return Driven(same, moved=False)
        machine = MACHINES[kind_of(stream)]
        before = machine.fold(stream, await self._ports.log.read(stream))
        if before.phase not in machine.table or getattr(before, "parked", None):
            return Driven(before, moved=False)
        if isinstance(before, Delivery) and before.version == 0:
            return Driven(before, moved=False)
        glance = await self._glance(before)
        start: Drive = {"stream": stream, "state": before, "moved": False}
        after = await self._graphs[machine.name].ainvoke(start, context=self._ports, config={"recursion_limit": PASSES})
        driven = Driven(after["state"], moved=after["state"].version > before.version)
        if glance and not driven.moved and not await self._is_telling(driven.state):
            self._remember(stream, glance, driven.state)
        return driven

    async def _nothing_due(self, stream: StreamId) -> Delivery | None:
        """The delivery as it stood, if nothing that it waits for has moved and its wait is not over. None: look."""
        known = self._quiet.get(stream)
        if known is None:
            return None
        glance, state = known
        over = state.waiting is None or self._ports.clock.now() >= state.waiting.until
        return state if not over and await self._glance(state) == glance else None

    async def _glance(self, state: Any) -> Glance:
        """Empty: it waits for nothing, or for the world, which has no version."""
        if not isinstance(state, Delivery) or state.waiting is None or state.waiting.on is None:
            return ()
        watched = (delivery_stream(state.id), state.waiting.on, people_stream(state.id), CONTROL)
        rows = [await self._ports.log.stream(one) for one in watched]
        return tuple(row.version if row else 0 for row in rows)

    async def _is_telling(self, state: Delivery) -> bool:
        """A message is under way, and the step waits for it: it shows in none of the streams that a glance looks at."""
        return bool(await self._ports.log.live(f"effect/tell/{state.id}/"))

    def _remember(self, stream: StreamId, glance: Glance, state: Delivery) -> None:
        self._quiet[stream] = (glance, state)
        if len(self._quiet) > QUIET_KEPT:
            self._quiet.pop(next(iter(self._quiet)))


QUIET_KEPT = 10_000  # deliveries; one more only costs a look
ASIDE = frozenset({"ABANDONED", "SUPERSEDED", "STUCK"})  # reached from almost everywhere: drawn only on request


def mermaid(machine: Machine[Any] = DELIVERY, *, aside: bool = False) -> str:
    """The machine as a Mermaid state diagram; with `aside`, also the ways out that almost every phase has."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(machine.table)).value}"]
    drawn = {phase.value: {b.value for b in followers} for phase, followers in machine.next.items()}
    if not aside:
        drawn = {a: followers - ASIDE for a, followers in drawn.items() if a not in ASIDE}
    for a, followers in drawn.items():
        lines.extend(f"    {a} --> {b}" for b in sorted(followers))
    lines.extend(f"    {a} --> [*]" for a, followers in drawn.items() if not followers)
    return "\n".join(lines) + "\n"
