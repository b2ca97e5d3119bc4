"""The line before a log: many append, one thread commits.

Whoever appends joins the line and waits. One appender thread takes everything that stands in line, has it committed as
one group and tells each caller on its own; what arrives meanwhile is the next group. One disk sync is so shared by all
who wait for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from controller.errors import Unavailable
from controller.ledger.writer import Append, Outcome
from controller.ports import Receipt, Rejected

MAX_GROUP = 512  # appends in one transaction: bounds how long the log is locked
MAX_IN_LINE = 10_000
CLOSE_S = 30.0

Commit = Callable[[Sequence[Append]], list[Outcome]]
Waiting = tuple[Append, "Future[Receipt | Rejected]"]


class Line:
    """`commit` is called by the one thread of this line only."""

    def __init__(self, name: str, commit: Commit) -> None:
        """`name` is the log's, as errors say it."""
        self._name, self._commit = name, commit
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="log-appender", daemon=True)
        self._thread.start()

    def join(self, append: Append) -> Future[Receipt | Rejected]:
        """Raises Unavailable when the line is closed or too long."""
        future: Future[Receipt | Rejected] = Future()
        with self._changed:
            if self._closed:
                raise is_closed(self._name)
            if len(self._waiting) >= MAX_IN_LINE:
                raise Unavailable(
                    f"{MAX_IN_LINE} appends to {self._name} wait already", "Slow down: its disk does not keep up"
                )
            self._waiting.append((append, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Commit what stands in line, then end. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _serve(self) -> None:
        while group := self._take():
            _settle(self._commit, group)

    def _take(self) -> list[Waiting]:
        """Everything in line, as soon as there is something. Empty: closed, and nobody waits any more."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]


def _settle(commit: Commit, group: list[Waiting]) -> None:
    """Commit a group and tell each of its callers. A caller that has given up before is left out."""
    wanted = [(append, future) for append, future in group if future.set_running_or_notify_cancel()]
    try:
        outcomes = commit([append for append, _ in wanted])
    except Exception as error:  # noqa: BLE001 - every caller is told, and the appender lives on for the next group
        for _, future in wanted:
            future.set_exception(error)
        return
    for (_, future), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def is_closed(name: str) -> Unavailable:
    return Unavailable(f"the log at {name} is closed", "This process is ending; the next one goes on")
