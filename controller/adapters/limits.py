"""Rates that every controller on one state folder shares, counted in a small SQLite file beside the log.

A count is no fact: it is kept without a disk sync, and losing the file loses a minute. So that a call costs no
transaction, a process takes a twentieth of a window's limit at a time and hands it out from memory; what it does not
use is lost with the window, so all processes together never let through more than the limit. Windows are fixed: around
the turn of one, up to twice the limit can pass within one window's length. A clock that is set back stays in the latest
window that anybody has counted in.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Unavailable
from controller.ports import Clock

SHARE = 20  # a process takes one of so many parts of a limit at a time
BUSY_S = 1.0
MAX_HELD = 10_000  # names that one process hands out for

CREATE = "CREATE TABLE IF NOT EXISTS taken (who TEXT PRIMARY KEY, window INTEGER NOT NULL, taken INTEGER NOT NULL)"
READ = "SELECT window, taken FROM taken WHERE who = ?"
WRITE = "INSERT INTO taken VALUES (?, ?, ?) ON CONFLICT (who) DO UPDATE SET window = ?2, taken = ?3"


@dataclass(slots=True)
class _Held:
    window: int
    left: int


class SharedLimits:
    """`ports.Limits`."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        self._path = str(path)
        self._clock = clock
        self._held: dict[tuple[str, int], _Held] = {}
        self._db: sqlite3.Connection | None = None  # None: not opened yet
        self._one_at_a_time = threading.Lock()
        self._one_reservation = asyncio.Lock()

    async def take(self, who: str, *, limit: int, window_s: int) -> float:
        while True:
            at = self._clock.now().timestamp()
            if self._handed_out(who, window_s, int(at // window_s)):
                return 0.0
            # a caller that goes away leaves what was reserved for it to the others
            window, some = await asyncio.shield(self._more(who, limit, window_s))
            if not some:
                return max(1.0, (window + 1) * window_s - at)

    def _handed_out(self, who: str, window_s: int, window: int) -> bool:
        held = self._held.get((who, window_s))
        if held is None or held.window < window or held.left <= 0:
            return False
        held.left -= 1
        return True

    async def _more(self, who: str, limit: int, window_s: int) -> tuple[int, bool]:
        """The window that is counted in, and whether there is something to hand out in it.

        One reservation at a time: of many first calls, one reserves and the others find what it has left.
        """
        async with self._one_reservation:
            window = int(self._clock.now().timestamp() // window_s)
            held = self._held.get((who, window_s))
            if held is not None and held.window >= window and held.left > 0:
                return held.window, True
            window, granted = await asyncio.to_thread(self._reserve, f"{who}/{window_s}", window, limit)
            if granted:
                if len(self._held) >= MAX_HELD:
                    self._held.clear()  # what was held is lost, and nobody gets more than the limit
                self._held[who, window_s] = _Held(window, granted)
            return window, granted > 0

    def close(self) -> None:
        with self._one_at_a_time:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _reserve(self, who: str, window: int, limit: int) -> tuple[int, int]:
        """The window that is counted in, and how many of its calls are this process's now."""
        with self._one_at_a_time:
            try:
                db = self._opened()
                db.execute("BEGIN IMMEDIATE")
                try:
                    latest, taken = db.execute(READ, (who,)).fetchone() or (window, 0)
                    counted = max(window, latest)
                    taken = taken if counted == latest else 0
                    granted = max(0, min(-(-limit // SHARE), limit - taken))
                    db.execute(WRITE, (who, counted, taken + granted))
                    db.execute("COMMIT")
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise Unavailable(
                    f"the shared count of calls in {self._path} cannot be reached: {error}",
                    "Look at the disk; the file may be deleted while nothing runs",
                ) from error
            return counted, granted

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute(CREATE)
        return self._db
