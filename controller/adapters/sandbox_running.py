"""A command that runs in a sandbox until it ends or is ended: how an instance of a service lives.

It dies with the process that started it (`sandbox_enter`, `sandbox_watch`). What was lent to it is taken back once it
and everything that it started are dead.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import AsyncExitStack

from controller.adapters.sandbox_doors import LOOPBACK, Doors
from controller.adapters.sandbox_io import ask_to_end, end, finish, read_output


class Running:
    """Made by `Sandbox.start`."""

    def __init__(
        self, process: Process, doors: Doors | None, on_output: Callable[[bytes], None], lent: AsyncExitStack
    ) -> None:
        self._process = process
        self._doors = doors  # None: no isolation, it listens on this machine's loopback
        self._lent = lent
        self._reader = asyncio.create_task(read_output(process, on_output), name=f"output of {process.pid}")
        self._ending = asyncio.Lock()

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number when a signal ended it. None: it runs."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    async def wait(self) -> None:
        await self._process.wait()

    async def connect(self, port: int, most_line_bytes: int) -> tuple[StreamReader, StreamWriter]:
        """A connection to what it listens with on its loopback. Raises `OSError`."""
        if self._doors is None:
            return await asyncio.open_connection(LOOPBACK, port, limit=most_line_bytes)
        return await self._doors.connect(port, most_line_bytes)

    def ask_to_end(self) -> None:
        """SIGTERM: it may answer what is in flight first."""
        ask_to_end(self._process, plain=self._doors is None)

    async def end(self) -> None:
        """Everything that it started is dead when this returns, and nothing of it is left. May be called twice."""
        async with self._ending:
            await end(self._process)
            await finish([self._reader])
            await self._lent.aclose()
