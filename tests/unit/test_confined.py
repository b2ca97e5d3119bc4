"""Hostile text costs one answer: whatever a parser does, this process lives, and nothing of the child stays."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import confined as module
from controller.confined import NotParsed, Why, confined
from controller.errors import ConfigError, Permanent, Unavailable

FUNCTIONS = "tests.fixtures.confined_functions:"
AMPLE_S = 60.0  # where time is not what is tested: the machine may be busy


async def of(name: str, payload: bytes = b"", **bounds: float) -> bytes:
    return await confined(FUNCTIONS + name, payload, **{"seconds": AMPLE_S, **bounds})  # type: ignore[arg-type]


async def test_a_function_that_behaves_answers() -> None:
    assert await of("turned", b"abc") == b"cba"
    assert await of("turned", b"") == b""


async def test_a_payload_larger_than_every_pipe_goes_there_and_back() -> None:
    large = os.urandom(3 << 20)
    assert await of("turned", large, output_bytes=3 << 20) == large[::-1]


async def test_what_a_parser_prints_is_no_part_of_its_answer() -> None:
    assert await of("printing", b"answer") == b"answer"


@pytest.mark.parametrize(
    ("name", "payload", "bounds", "why", "words"),
    [
        ("looping", b"", {"seconds": 1.5}, Why.TIME, "ran out of its 1.5 s"),
        ("crashing", b"", {}, Why.CRASH, "crashed by SIGSEGV"),
        ("leaving", b"", {}, Why.CRASH, "ended with exit code 0 and no answer"),
        (
            "telling_too_much",
            b"1025",
            {"output_bytes": 1024},
            Why.OUTPUT,
            "answered with 1025 bytes, and may give 1024",
        ),
        ("writing_too_much", b"1025", {"file_bytes": 1024}, Why.REJECTED, "File too large"),
        ("recursing", b"", {}, Why.REJECTED, "nested too deep"),
        ("failing", b"", {}, Why.REJECTED, "ValueError: the text has no end x"),
    ],
)
async def test_a_parser_that_misbehaves_costs_one_answer_and_says_why(
    name: str, payload: bytes, bounds: dict[str, float | int], why: Why, words: str
) -> None:
    with pytest.raises(NotParsed, match=words) as no:
        await of(name, payload, **bounds)
    assert no.value.why is why
    assert len(no.value.message) < 400


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps no limit on an address space")
async def test_a_parser_that_takes_memory_without_end_is_stopped() -> None:
    with pytest.raises(NotParsed, match="ran out of its memory"):
        await of("hoarding", memory_bytes=256 << 20)


async def test_bounds_that_are_just_kept_are_kept() -> None:
    assert len(await of("telling_too_much", b"1024", output_bytes=1024)) == 1024
    assert await of("writing_too_much", b"1024", file_bytes=1024) == b"written"


async def test_the_functions_own_refusals_keep_their_words_and_kind() -> None:
    with pytest.raises(ConfigError, match=r"grants/author\.yaml:3: no such tool") as no:
        await of("refusing")
    assert no.value.way_out == "Correct that line"
    with pytest.raises(Permanent, match="this cannot be") as other:
        await of("refusing_for_good")
    assert not isinstance(other.value, ConfigError)


async def test_the_child_has_no_environment_no_file_and_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-fake")
    ours = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(ours, True)
    seen = json.loads(await of("looking_around"))
    os.close(ours)
    assert set(seen["environment"]) <= {"LC_ALL", "TMPDIR", "HOME", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert len(seen["descriptors"]) == 4  # the three of every process, and where its answer goes
    assert seen["files"] == []
    await until(lambda: not Path(seen["folder"]).exists())


async def test_a_cancelled_question_leaves_no_process(tmp_path: Path) -> None:
    await cancelled("noting_itself", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's child starts no process at all: see the next test")
async def test_what_a_root_child_started_ends_with_it(tmp_path: Path) -> None:
    await cancelled("starting_another", tmp_path)


async def cancelled(name: str, folder: Path) -> None:
    note = folder / "pid"
    asking = asyncio.create_task(of(name, str(note).encode()))
    await until(lambda: note.exists() and note.read_text() != "")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: is_gone(int(note.read_text())))


@pytest.mark.skipif(os.geteuid() == 0, reason="root is not held to a limit on processes")
async def test_an_ordinary_users_child_starts_no_process(tmp_path: Path) -> None:
    with pytest.raises(NotParsed, match="BlockingIOError"):
        await of("starting_another", str(tmp_path / "pid").encode())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_child_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import asyncio, controller.confined as c; asyncio.run(c.confined({FUNCTIONS + 'noting_itself'!r}, "
    code += f"{str(note).encode()!r}, seconds=60))"
    asking = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[2])
    await until(lambda: note.exists() and note.read_text() != "")
    asking.kill()
    await asking.wait()
    await until(lambda: is_gone(int(note.read_text())))


async def test_more_questions_than_turns_are_all_answered_and_never_more_than_those_run_at_once() -> None:
    answers = await asyncio.gather(*(of("turned", str(n).encode()) for n in range(10, 10 + 2 * module.MAX_AT_ONCE)))
    assert answers == [str(n)[::-1].encode() for n in range(10, 10 + 2 * module.MAX_AT_ONCE)]


async def test_one_asker_with_slow_texts_keeps_nobody_waiting() -> None:
    slow = [
        asyncio.create_task(confined(FUNCTIONS + "looping", b"", seconds=AMPLE_S, asker=asker))
        for asker in ("shop-1/1",) * 20
    ]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(AMPLE_S / 2):
            assert await confined(FUNCTIONS + "turned", b"ab", seconds=AMPLE_S, asker="shop-2/1") == b"ba"
            assert await of("turned", b"ab") == b"ba"
    finally:
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_many_askers_with_slow_texts_leave_a_place_for_the_loops_own_questions() -> None:
    slow = [
        asyncio.create_task(confined(FUNCTIONS + "looping", b"", seconds=AMPLE_S, asker=f"shop-{number}/1"))
        for number in range(10)
    ]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(AMPLE_S / 2):
            assert await of("turned", b"ab") == b"ba"
    finally:
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("function", ["no.such.module_here:name", FUNCTIONS + "no_such_function"])
async def test_a_function_that_there_is_not_is_a_defect_and_no_hostile_text(function: str) -> None:
    with pytest.raises(TypeError, match="cannot be imported"):
        await confined(function, b"", seconds=AMPLE_S)


async def test_an_answer_that_is_no_bytes_is_a_defect() -> None:
    with pytest.raises(TypeError, match="answered with a str"):
        await of("answering_text")


@pytest.mark.parametrize("function", ["os.system", "a:b:c", "a.B:c", "--help:x"])
async def test_a_name_of_no_function_is_refused_before_anything_starts(function: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:name"):
        await confined(function, b"")


async def test_a_payload_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAYLOAD_BYTES", 10)
    assert await of("turned", b"x" * 10) == b"x" * 10
    with pytest.raises(ConfigError, match="11 bytes"):
        await of("turned", b"x" * 11)


async def test_a_machine_that_starts_no_process_is_said_to_be_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.confined.sys.executable", "/no/such/python")
    with pytest.raises(Unavailable, match="no process can be started"):
        await of("turned", b"x")


def is_gone(pid: int) -> bool:
    """A process that has ended and waits for its parent is gone too."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() in {"", "Z"}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(AMPLE_S):
        while not holds():  # noqa: ASYNC110 - a process's end has no event here
            await asyncio.sleep(0.01)
