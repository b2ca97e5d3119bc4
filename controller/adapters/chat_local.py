"""Chat without a chat system: an outbox file that the terminal and the pages read.

One JSON object a line, only ever added to. A line counts once its newline is on disk: what a crash left without one
was never acknowledged, is read by nobody, and is cut off by the next writer. Writers of several processes take turns
by a lock that the kernel drops when they die.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from controller.domain.base import Fact
from controller.domain.ids import EffectKey, canonical
from controller.domain.verbs import Tell, Told, Verb
from controller.errors import Permanent, Unavailable
from controller.ports import Clock

LOCK_WAIT_S = 2.0  # well inside the verb's deadline of 10 s
LOCK_POLL_S = 0.005
MAX_TEXT_CHARACTERS = 40_000  # Slack's limit for a message, so that a text that passes here passes there
MAX_OUTBOX_BYTES = 64 * 1024 * 1024  # read whole for every message: some 20 ms


class Message(Fact):
    number: int  # from 1, without a gap
    at: datetime
    key: EffectKey
    to: str
    thread: str
    text: str


class LocalChat:
    """`Hands` for chat.tell, and the reader of what was told. Safe to use from several processes on the same file."""

    def __init__(self, outbox: Path, clock: Clock, clean: Callable[[str], str] = str) -> None:
        """`clean` takes secrets out of a text before it is told."""
        self._outbox = outbox
        self._clock = clock
        self._clean = clean

    async def act(self, key: EffectKey, verb: Verb) -> Told:
        """Tell it once: a key that has been told already is only looked up."""
        tell = _as_tell(verb)
        return await asyncio.to_thread(self._tell, key, tell)

    async def find(self, key: EffectKey, verb: Verb) -> Told | None:
        """None: nothing was told under this key."""
        _as_tell(verb)
        content = await asyncio.to_thread(self._read)
        return _told_before(content, key)

    async def messages(self, after: int = 0) -> list[Message]:
        """What was told, in order, from the message after number `after` on."""
        content = await asyncio.to_thread(self._read)
        return [Message.model_validate_json(line) for line in _whole_lines(content)[after:]]

    def _read(self) -> bytes:
        return self._outbox.read_bytes() if self._outbox.exists() else b""

    def _tell(self, key: EffectKey, tell: Tell) -> Told:
        if len(tell.text) > MAX_TEXT_CHARACTERS:
            raise Permanent(
                f"the message has {len(tell.text)} characters, more than {MAX_TEXT_CHARACTERS}", "Shorten it"
            )
        with _locked(self._outbox) as file:
            content = file.read()
            before = _told_before(content, key)
            if before is not None:
                return before
            number = content.count(b"\n") + 1
            message = Message(
                number=number,
                at=self._clock.now(),
                key=key,
                to=tell.to,
                thread=tell.thread,
                text=self._clean(tell.text),
            )
            _append(file, content, canonical(message.model_dump(mode="json")) + b"\n", self._outbox)
            return Told(message=str(number))


def _as_tell(verb: Verb) -> Tell:
    if not isinstance(verb, Tell):
        raise TypeError(f"{verb.name} is no verb of the chat")
    return verb


def _told_before(content: bytes, key: EffectKey) -> Told | None:
    """Only a line's own key is spelled with bare quotes: within its text they are escaped."""
    field = canonical({"key": key})[1:-1]
    told = next((line for line in _whole_lines(content) if field in line), None)
    return None if told is None else Told(message=str(Message.model_validate_json(told).number))


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]


def _append(file: BinaryIO, content: bytes, line: bytes, outbox: Path) -> None:
    end = content.rfind(b"\n") + 1
    if end + len(line) > MAX_OUTBOX_BYTES:
        raise Permanent(f"{outbox} has reached {MAX_OUTBOX_BYTES} bytes", "Move it away; a new one is begun")
    file.truncate(end)
    file.seek(end)
    file.write(line)
    file.flush()
    os.fsync(file.fileno())
    if not content:
        _sync_folder(outbox.parent)


@contextmanager
def _locked(outbox: Path) -> Iterator[BinaryIO]:
    outbox.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(outbox, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        give_up = time.monotonic() + LOCK_WAIT_S
        while not _try_lock(descriptor):
            if time.monotonic() > give_up:
                raise Unavailable(f"{outbox} has been locked for {LOCK_WAIT_S:g} s")
            time.sleep(LOCK_POLL_S)
        yield file


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
