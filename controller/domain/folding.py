"""Folds that are not begun again from the first entry every time.

A state is a pure function of its entries. What is kept beside it is the very entries that gave it: only a longer
history of the same entries goes on from there, anything else is folded from the start. Forgetting costs time and
nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from controller.domain.entry import Entry

KEPT_STREAMS = 512

N = TypeVar("N", bound=str)
S = TypeVar("S")


class Folds(Generic[N, S]):
    def __init__(self, begin: Callable[[N], S], evolve: Callable[[S, Entry], S]) -> None:
        self._begin = begin
        self._evolve = evolve
        self._kept: OrderedDict[N, tuple[list[Entry], S]] = OrderedDict()

    def __call__(self, name: N, entries: list[Entry]) -> S:
        known, state = self._kept.get(name, ([], self._begin(name)))
        if entries[: len(known)] != known:
            known, state = [], self._begin(name)
        for entry in entries[len(known) :]:
            state = self._evolve(state, entry)
        self._kept[name] = (entries, state)
        self._kept.move_to_end(name)
        if len(self._kept) > KEPT_STREAMS:
            self._kept.popitem(last=False)
        return state
