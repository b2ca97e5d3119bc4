"""The graphs that the loop runs on are exactly its tables."""

from __future__ import annotations

from enum import StrEnum

import pytest
from langgraph.graph import END, START

from controller.domain.delivery import NEXT, TERMINAL, Phase
from controller.domain.queue import QUEUE_NEXT, QueuePhase
from controller.domain.rollout import ROLLOUT_NEXT, RolloutPhase
from controller.loop import MACHINES, Machine, edges, graph_of, mermaid

EVERY = sorted(MACHINES)


@pytest.mark.parametrize("name", EVERY)
def test_the_edges_of_a_graph_are_exactly_those_of_its_table(name: str) -> None:
    machine = MACHINES[name]
    drawn = {(edge.source, edge.target) for edge in graph_of(machine).get_graph().edges}
    inner = {(a, b) for a, b in drawn if START not in (a, b) and END not in (a, b)}
    wanted = {(a.value, b.value) for a, followers in machine.next.items() for b in followers if b in machine.table}
    assert inner == wanted == edges(machine)


@pytest.mark.parametrize("name", EVERY)
def test_a_drive_begins_in_any_phase_and_may_end_after_any_step(name: str) -> None:
    phases = {phase.value for phase in MACHINES[name].table}
    drawn = {(edge.source, edge.target) for edge in graph_of(MACHINES[name]).get_graph().edges}
    assert {b for a, b in drawn if a == START} == phases
    assert {a for a, b in drawn if b == END} == phases


def test_every_phase_of_a_delivery_that_is_no_end_has_a_step() -> None:
    assert set(MACHINES["delivery"].table) == set(Phase) - TERMINAL
    assert set(NEXT) == set(Phase)
    assert {phase for phase, followers in NEXT.items() if not followers} == TERMINAL


@pytest.mark.parametrize(
    ("name", "phases", "follow"),
    [("queue", QueuePhase, QUEUE_NEXT), ("rollout", RolloutPhase, ROLLOUT_NEXT)],
)
def test_a_machine_without_an_end_has_a_step_for_every_phase(
    name: str, phases: type[StrEnum], follow: dict[object, object]
) -> None:
    assert set(MACHINES[name].table) == set(phases) == set(follow)
    assert all(follow.values())


@pytest.mark.parametrize("name", EVERY)
def test_every_phase_can_be_reached(name: str) -> None:
    machine: Machine[object] = MACHINES[name]
    seen, ahead = set(), [next(iter(machine.table))]
    while ahead:
        phase = ahead.pop()
        if phase not in seen:
            seen.add(phase)
            ahead.extend(machine.next[phase])
    assert seen == set(machine.next)


@pytest.mark.parametrize("name", EVERY)
def test_the_picture_shows_every_phase(name: str) -> None:
    picture = mermaid(MACHINES[name], aside=True)
    assert picture.startswith("stateDiagram-v2\n")
    assert all(phase.value in picture for phase in MACHINES[name].next)
