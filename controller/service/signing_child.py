"""The signer as a controller's child: started, started again when it ends, and ended with its controller.

The child reads its standard input, on which nobody ever says anything: however the controller ends, the kernel closes
it, and the child signs what is left and ends too. Of several controllers on one state folder one has the signer that
holds it; the others' children find it held, and are tried again until it is free.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import controller
from controller.adapters.edge_environment import plain_environment
from controller.ledger.keyring import FOLDER
from controller.service.signing import LAST_WORDS_S, Ended, SigningPlan, arguments_of

logger = logging.getLogger("flyball.signing")
AGAIN_S = 2.0  # after a signer has ended, and while another one holds the folder
END_WITHIN_S = LAST_WORDS_S + 5.0
LARGEST_LOG_BYTES = 8 << 20
HOME = str(Path(controller.__file__ or ".").resolve().parent.parent)


@asynccontextmanager
async def signing(plan: SigningPlan) -> AsyncIterator[None]:
    """A signer runs for as long as the block does."""
    task = asyncio.create_task(_kept_running(plan), name="signing")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _kept_running(plan: SigningPlan) -> None:
    while True:
        child = await _start(plan)
        try:
            code = await child.wait()
        finally:
            await _end(child)
        if code != Ended.HELD:
            logger.error("the signer ended with exit code %d; see %s", code, plan.own / "signer.log")
        await asyncio.sleep(AGAIN_S)


async def _start(plan: SigningPlan) -> Process:
    words = ["-P", "-m", "controller.service.signing", *arguments_of(plan), "--with-parent"]
    with await asyncio.to_thread(_opened_log, plan.own) as file:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdin=PIPE,
            stdout=file,
            stderr=file,
            env=_environment(plan),
            start_new_session=True,  # Ctrl-C is for the controller: the signer ends after it
        )


def _environment(plan: SigningPlan) -> dict[str, str]:
    """Nothing that could be a secret, but the one that it needs."""
    wanted = {name: os.environ[name] for name in (plan.postgres_env,) if name in os.environ}
    return {**plain_environment(), **wanted, "PYTHONPATH": HOME}


def _opened_log(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    path = folder / "signer.log"
    if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
        path.replace(folder / "signer.log.old")
    return path.open("ab")


async def _end(child: Process) -> None:
    """Close its standard input, and wait until it has signed what is left."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        await child.wait()
