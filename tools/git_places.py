"""How many git requests are served at once, and whose: nobody can take so many that others find none.

A request keeps its place while its body comes in, while git works for it, and until its answer has been sent, each with
a deadline. One caller (a delivery, or a program outside, through all of its sessions) has a few places at most; the
last ones are given only to callers that have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tools.git_asked import No

AGAIN = {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class DoorLimits:
    at_once: int = 16  # requests that keep a git process busy
    of_one_caller: int = 4  # a git client makes one or two
    for_newcomers: int = 4  # of `at_once`: for callers that have no place yet
    idle_s: float = 30.0  # between two pieces of a request, or of an answer that its client does not take
    read_s: float = 60.0  # for all of a fetch's request, and for the commands of a push
    push_s: float = 300.0
    fetch_s: float = 600.0


ORDINARY = DoorLimits()


@dataclass
class Places:
    """Lives in one event loop."""

    limits: DoorLimits
    _held: Counter[str] = field(default_factory=Counter)

    @property
    def busy(self) -> int:
        return self._held.total()

    @contextmanager
    def taken(self, session: str) -> Iterator[None]:
        """A place while it lasts. Raises No when there is none for this caller."""
        caller = session.partition("/")[0]
        self._must_be_free(caller)
        self._held[caller] += 1
        try:
            yield
        finally:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

    def _must_be_free(self, caller: str) -> None:
        held, busy = self._held[caller], self.busy
        if held >= self.limits.of_one_caller:
            raise No(503, f"{held} git requests of this session are under way; let one end first", AGAIN)
        open_to_it = self.limits.at_once - (self.limits.for_newcomers if held else 0)
        if busy >= open_to_it:
            raise No(503, "too many at once; try again in a moment", AGAIN)
