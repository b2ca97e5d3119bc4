"""The session as a graph: ask, act, ask, act, ... finish. After every node the log says where it goes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, TimeoutPolicy

from controller.agents.nodes import act, ask, broke_off, finish
from controller.agents.run import Place, Run, Stop
from controller.domain.bounds import Bounds
from controller.errors import Unavailable

VERSION = 1  # counts the graph's shapes: a checkpoint made under another one is not looked at
STALLS_PER_CALL = 4  # a reply may trickle for this many stalls' time before its node is given up

Graph = StateGraph[Place, Run, Place, Place]

ROUTES: dict[Hashable, str] = {"ask": "ask", "act": "act", "finish": "finish", "leave": END}


def where_next(state: Place, runtime: Runtime[Run]) -> Stop:  # noqa: ARG001 - the log says it
    return runtime.context.next_stop()


def build_graph(bounds: Bounds, retry_wait_s: float) -> Graph:
    retry = RetryPolicy(
        max_attempts=bounds.step_attempts,
        initial_interval=retry_wait_s,
        jitter=retry_wait_s > 0,
        retry_on=Unavailable,
    )
    calling = TimeoutPolicy(run_timeout=bounds.model_stall_seconds * STALLS_PER_CALL)
    working = TimeoutPolicy(run_timeout=bounds.session_seconds)
    on_error: Any = broke_off  # the library has no type for a handler that takes the error
    graph: Graph = StateGraph(Place, context_schema=Run)
    graph.add_node("ask", ask, retry_policy=retry, timeout=calling, error_handler=on_error)
    graph.add_node("act", act, retry_policy=retry, timeout=working, error_handler=on_error)
    graph.add_node("finish", finish, retry_policy=retry, timeout=working)
    graph.add_conditional_edges(START, where_next, ROUTES)
    graph.add_conditional_edges("ask", where_next, ROUTES)
    graph.add_conditional_edges("act", where_next, ROUTES)
    graph.add_edge("finish", END)
    return graph


def steps_bound(bounds: Bounds) -> int:
    """Super-steps that no session can need: two a turn, and a few at the ends."""
    return 2 * bounds.session_turns + 8
