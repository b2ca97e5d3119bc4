"""What the processes of tests answer, each line held against what was asked. Part of the parent of the tests.

A session lists its tests, then runs them in that order, one by one. Which of them are preceded by a tripwire the parent
decides by chance, a few tests ahead; a tripwire's time is bounded by a share of what the tests take. Any line that an
honest session would not send at this place raises `ForgedError`, and the session is over.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import time
from typing import Any

LONGEST_ANSWER = 256 * 1024
MOST_IDS = 20_000
AHEAD = 32  # tests that are ordered before their turn
WIRES_START_S, WIRES_SHARE = 0.03, 0.03  # time that tripwires may take: at first, and of what the session has taken


class Results:
    """CI's pipe. Nobody else has it: it is closed in every child before anything of the tree runs."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.skipped: list[str] = []
        self.held: list[tuple[str, dict[str, Any]]] | None = None  # said later or never; None: said at once

    def settle(self, *, keep: bool) -> None:
        held, self.held = self.held or [], None
        for kind, line in held if keep else ():
            self.say(kind, **line)

    def say(self, kind: str, **line: Any) -> None:
        if self.held is not None:
            self.held.append((kind, line))
            return
        if kind == "test" and line["outcome"] == "skipped":
            self.skipped.append(line["test"])
        rest = json.dumps({"kind": kind, **line}).encode() + b"\n"
        while rest:
            rest = rest[os.write(self.pipe, rest) :]


class ForgedError(Exception):
    """An answer that an honest session never gives."""


class Session:
    """One child's answers, each held against what was asked."""

    def __init__(self, results: Results, channel: socket.socket, secret: str, then: str = "") -> None:
        """`then`: what may follow in the same process once all tests have passed. "": nothing."""
        self.results, self.channel, self.secret, self.then = results, channel, secret, then
        self.followed = False
        self.letters: list[str] = []  # sent, and not used up: whatever runs next reads them first
        self.begin()

    def begin(self) -> None:
        self.listed: list[str] = []
        self.order: list[str] = []
        self.ready = self.finished = self.passed = False
        self.failed = 0
        self.done: set[int] = set()
        self.running: int | None = None
        self.asked = ""  # of the running test; "w": its tripwire comes first, "g": it is its own turn
        self.begun = self.began = self.ran = time.monotonic()
        self.wires_s, self.wire_s = 0.0, 0.002  # tripwires took so long in all; one takes about so long
        self.wired: set[tuple[int, bool]] = set()
        self.wires = {"failed": 0, "passed": 0, "none": 0}

    def hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            if said.pop("secret") != self.secret:
                raise ForgedError("a line without this session's secret")
            getattr(self, "on_" + said.pop("kind"))(**said)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:
            raise ForgedError(f"a line that is no answer ({type(wrong).__name__})") from None

    def on_collected(self, ids: list[str]) -> None:
        if self.ready or len(self.listed) > MOST_IDS:
            raise ForgedError("a list of tests after the list was closed")
        self.listed += [str(one) for one in ids]
        self.results.say("collected", ids=ids)

    def on_uncollected(self, test: str, message: str) -> None:
        if self.ready:
            raise ForgedError("a collection after the collection")
        self.failed += 1
        self.results.say("test", test=test, outcome="failed", duration_ms=0, message=message)

    def on_ordered(self, tests: list[str]) -> None:
        if self.ready or not set(tests) <= set(self.listed):
            raise ForgedError("tests that were not collected are to run")
        self.order += tests

    def on_ready(self) -> None:
        self.ready, self.begun = True, time.monotonic()
        self.results.say("ordered", count=len(self.order))
        if self.order:
            self.send_letters()

    def on_start(self, number: int) -> None:
        if not self.ready or self.running is not None or number in self.done or not 0 <= number < len(self.order):
            raise ForgedError("a test began that was not to begin")
        if not self.letters:
            raise ForgedError("a test began before it was ordered")
        self.running, self.asked = number, self.letters.pop(0)
        self.results.say("started", test=self.order[number])
        self.began, self.ran = time.monotonic(), 0.0
        if len(self.letters) <= AHEAD // 2:
            self.send_letters()

    def send_letters(self) -> None:
        """What the next tests are to do, ahead of their turn: nobody waits for us."""
        room = WIRES_START_S + WIRES_SHARE * (time.monotonic() - self.begun) - self.wires_s
        wires = int(max(0.0, room) / self.wire_s)
        free = AHEAD - len(self.letters)
        chosen = set(random.SystemRandom().sample(range(free), min(wires, free)))
        letters = ["w" if place in chosen else "g" for place in range(free)]
        self.letters += letters
        self.channel.sendall("".join(letters).encode())

    def on_go(self, number: int) -> None:
        if number != self.running or self.asked != "w":
            raise ForgedError("a test went on without its tripwire")
        took = time.monotonic() - self.began
        self.wires_s, self.wire_s = self.wires_s + took, max(0.0002, 0.7 * self.wire_s + 0.3 * took)
        self.asked, self.began = "g", time.monotonic()

    def on_wire(self, number: int, outcome: str) -> None:
        behind = self.asked == "g" and self.running == len(self.order) - 1  # those that stand behind the last test
        due = (
            (number == self.running or number in self.done) if behind else self.asked == "w" and number == self.running
        )
        if not due or (number, behind) in self.wired:
            raise ForgedError("a tripwire answered that was not ordered")
        self.wired.add((number, behind))
        self.wires[outcome] += 1
        if outcome == "passed":
            raise ForgedError(f"a test that must fail was reported as passed, beside {self.order[number]}")

    def on_ran(self, number: int) -> None:
        """The last test has come to its end; what stands behind it takes no time of its."""
        if number == self.running and not self.ran:
            self.ran = time.monotonic()

    def on_end(self, number: int, turned: str, benchmarks: list[Any], **told: Any) -> None:
        if number != self.running or self.asked != "g":
            raise ForgedError("a result that nobody asked for")
        if turned:
            raise ForgedError(f"a hook of the tree turns failures into passes: {turned}")
        test, took = self.order[number], int(((self.ran or time.monotonic()) - self.began) * 1000)
        self.running, self.asked = None, ""
        self.done.add(number)
        self.failed += told["outcome"] == "failed"
        for one in benchmarks:
            self.results.say("benchmark", test=test, name=one["name"], samples=one["samples"])
        self.results.say("test", test=test, duration_ms=took, **told)

    def on_loaded(self, **found: Any) -> None:
        self.results.say("loaded", **found)

    def on_finished(self, exit: int) -> None:  # noqa: A002  pytest's own word
        if self.running is not None or self.finished:
            raise ForgedError("the session ended in the middle of a test")
        self.finished, self.passed = True, exit == 0
        self.results.say("finished", exit=exit, wires=self.wires)

    def on_next(self) -> None:
        """The session is over, and its tests with it, before a file of the next one's lies in the tree."""
        if not self.then or not self.passed or self.failed or len(self.done) != len(self.order):
            raise ForgedError("a session went on that was not to go on")
        self.results.say("ended", code=0, timed_out=False, left=False)
        self.results.held = []
        self.results.say("session", name=self.then)
        self.then, self.followed = "", True
        self.begin()


def attend(session: Session, child: int, until: float) -> str:
    """Until the child is dead. "": it ended by itself. Else why it was killed."""
    lines = Lines(session)
    poll = select.poll()
    poll.register(session.channel, select.POLLIN)
    waited = os.pidfd_open(child) if hasattr(os, "pidfd_open") else -1
    if waited >= 0:
        poll.register(waited, select.POLLIN)
    why = ""
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(20 if waited < 0 else max(1, int((until - time.monotonic()) * 1000)))}
            if session.channel.fileno() in ready and not lines.read():
                poll.unregister(session.channel)
            if waited in ready or (waited < 0 and dead(child)):
                lines.drain()
                return why
            if time.monotonic() > until:
                return "time"
    except ForgedError as wrong:
        return str(wrong)
    finally:
        if waited >= 0:
            os.close(waited)


def dead(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Lines:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.rest = b""

    def read(self) -> bool:
        """False: the other end is closed."""
        try:
            chunk = self.session.channel.recv(65_536)
        except (ConnectionResetError, BlockingIOError):
            return False
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        for line in whole:
            self.session.hear(line)
        if len(self.rest) > LONGEST_ANSWER:
            raise ForgedError("a line without end")
        return bool(chunk)

    def drain(self) -> None:
        self.session.channel.setblocking(False)
        while self.read():
            pass
