"""Work that takes long holds up neither the loop nor the end of the process, and its silence is said to be one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from controller import off_loop
from controller.errors import Unavailable
from controller.off_loop import Inline, OffLoop, Runner

AMPLE_S = 60.0


@pytest.mark.parametrize("runner", [Inline(), OffLoop(within_s=AMPLE_S)])
async def test_work_answers_and_raises_as_if_it_were_done_here(runner: Runner) -> None:
    assert await runner.run(divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        await runner.run(divmod, 1, 0)


async def test_the_loop_goes_on_while_work_waits() -> None:
    door, seen = threading.Event(), 0
    working = asyncio.create_task(OffLoop(within_s=AMPLE_S).run(door.wait, AMPLE_S))
    for _ in range(50):
        await asyncio.sleep(0)
        seen += not working.done()
    door.set()
    assert await working
    assert seen == 50


async def test_work_that_is_late_is_unavailable_and_the_next_is_done() -> None:
    door, runner = threading.Event(), OffLoop(threads=2, within_s=0.2)
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        await runner.run(door.wait, AMPLE_S)
    assert await OffLoop.run(runner, divmod, 9, 2) == (4, 1)
    door.set()


async def test_work_for_which_nobody_waits_any_more_is_not_begun() -> None:
    door, runner = threading.Event(), OffLoop(threads=1, within_s=AMPLE_S)
    begun: list[str] = []
    first = asyncio.create_task(runner.run(door.wait, AMPLE_S))
    given_up = asyncio.create_task(runner.run(begun.append, "given up"))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    door.set()
    await first
    await runner.run(begun.append, "the next")
    assert begun == ["the next"]


async def test_when_every_thread_is_lost_everything_is_unavailable() -> None:
    door, runner = threading.Event(), OffLoop(threads=1, within_s=0.2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await runner.run(door.wait, AMPLE_S)
    door.set()


async def test_what_waits_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_loop, "MAX_WAITING", 2)
    door, runner = threading.Event(), OffLoop(threads=1, within_s=AMPLE_S)
    begun = threading.Event()

    def waits() -> bool:
        begun.set()
        return door.wait(AMPLE_S)

    first = asyncio.create_task(runner.run(waits))
    while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(runner.run(divmod, 4, 2)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 questions wait already"):
        await runner.run(divmod, 4, 2)
    door.set()
    assert await asyncio.gather(first, *waiting) == [True, (2, 0), (2, 0)]


async def test_a_panic_of_native_code_ends_no_loop() -> None:
    class PanicException(BaseException): ...  # noqa: N818 - as native code's is named

    def panics() -> None:
        raise PanicException

    runner = OffLoop(threads=1, within_s=AMPLE_S)
    with pytest.raises(Unavailable, match="the work ended with PanicException"):
        await runner.run(panics)
    assert await runner.run(divmod, 4, 2) == (2, 0)


def test_a_process_ends_while_its_work_never_does() -> None:
    code = (
        "import asyncio, time\nfrom controller.off_loop import OffLoop\nfrom controller.errors import Unavailable\n"
        "async def main():\n    try:\n        await OffLoop(within_s=0.1).run(time.sleep, 1000)\n"
        "    except Unavailable:\n        print('late')\nasyncio.run(main())"
    )
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=AMPLE_S, check=True)
    assert (ran.stdout, time.monotonic() - began < AMPLE_S) == ("late\n", True)
