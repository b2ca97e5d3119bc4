"""The court in a process of its own: started at the first look, started again when it ends, and never believed unseen.

One question is under way at a time, and has its time-out. Whatever goes wrong with an answer ends the process, so that
a late answer is never taken for the next one's; a new one is started, each time later. Until then there is no verdict,
so no weight is renewed and the platform takes the traffic back by itself. An answer counts only if its verdict follows
from the windows in it, which is computed again here.

The process gets no environment, no file and no word of this one's but where the edge and the blobs are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

import controller
from controller.adapters.judge_wire import LARGEST_ANSWER_BYTES, LARGEST_QUESTION_BYTES, Answer, Question
from controller.canary.court import checked
from controller.domain.events import Label
from controller.errors import Permanent, Unavailable
from controller.ports import LookRequest, Reader, Seen

logger = logging.getLogger("flyball.judge")
HOME = str(Path(controller.__file__ or ".").resolve().parent.parent)
ENVIRONMENT = {"PYTHONPATH": HOME, "LC_ALL": "C.UTF-8"}
BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # after so many failures in a row, until it is started again
END_WITHIN_S = 2.0
TAIL_BYTES = 4 << 10
MOST_PIECES = 64  # of a life's words that are logged; of what comes after them only the last ones are kept


def judge_command(edge: Path, blobs: Path, label: Label) -> tuple[str, ...]:
    told = ("--edge", str(edge.resolve()), "--blobs", str(blobs.resolve()), "--label", label.value)
    return (sys.executable, "-P", "-B", "-m", "controller.service.judging", *told)


@dataclass
class Child:
    """One life of the judge's process."""

    process: Process
    questions: StreamWriter
    answers: StreamReader
    keeper: asyncio.Task[None]  # reads what it says to people, and waits for its end
    words: list[bytes]  # the newest of them

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    def end(self) -> None:
        if self.ended:  # its number may be somebody else's by now
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def last_words(self) -> str:
        await self.keeper
        said = b"".join(self.words)[-TAIL_BYTES:].decode(errors="replace").strip()
        return f"exit code {self.process.returncode}" + (f"; it said last: {said[-600:]}" if said else "")


class JudgeProcess:
    """`Court`. `within_s` bounds a look with everything about it; it belongs below the time-out of a step."""

    def __init__(self, command: Sequence[str], blobs: Reader, label: Label, *, within_s: float) -> None:
        self._command = tuple(command)
        self._blobs = blobs
        self._label = label
        self._within_s = within_s
        self._turn = asyncio.Lock()
        self._child: Child | None = None  # None: none has been started, or the last one has been ended
        self._keepers: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._failures = 0  # in a row
        self._again_at = 0.0  # of the event loop's time

    async def look(self, request: LookRequest) -> Seen:
        self._numbers += 1
        question = Question(number=self._numbers, request=request)
        content = question.model_dump_json().encode() + b"\n"
        if len(content) > LARGEST_QUESTION_BYTES:
            raise Permanent(
                f"a look over {len(request.segments)} segments exceeds {LARGEST_QUESTION_BYTES} bytes",
                "End the rollout, or set a longer rollout.segment_ms",
            )
        try:
            async with asyncio.timeout(self._within_s), self._turn:
                return await self._asked(question, content)
        except TimeoutError as error:
            raise Unavailable(
                f"the judge's process has not answered within {self._within_s:g} s", "It is started again"
            ) from error

    async def close(self) -> None:
        """Its standard input closes, at which it ends; it is made to if it does not."""
        child, self._child = self._child, None
        if child is not None:
            child.questions.close()
            await asyncio.wait({child.keeper}, timeout=END_WITHIN_S)
            child.end()
        await asyncio.gather(*self._keepers)

    async def _asked(self, question: Question, content: bytes) -> Seen:
        child = await self._living()
        try:
            answer = await _answered(child, content)
            seen = await self._believed(question, answer)
        except BaseException:
            self._lose(child)
            raise
        self._failures = 0
        if seen is None:
            raise _no(answer)
        return seen

    async def _believed(self, question: Question, answer: Answer) -> Seen | None:
        """None: it says why it could not look. Raises Contradicted, and Unavailable for what is no answer at all."""
        if answer.number != question.number or (answer.seen is None) == (answer.no is None):
            raise Unavailable(
                f"the judge's process gave no answer to question {question.number}", "It is started again"
            )
        if answer.seen is None:
            return None
        if answer.seen.label is not self._label:
            raise Unavailable(
                f"the judge's process calls its counts {answer.seen.label}, and was told {self._label}",
                "It is started again",
            )
        return await checked(question.request, answer.seen, self._blobs)

    async def _living(self) -> Child:
        if self._child is not None and self._child.ended:
            words = await self._child.last_words()
            logger.error("the judge's process ended: %s", words)
            self._lose(self._child)
        if self._child is None:
            left = self._again_at - asyncio.get_running_loop().time()
            if left > 0:
                raise Unavailable(
                    f"the judge's process has failed {self._failures} times and is started again in {left:.1f} s",
                    "Read what the controller logged of it",
                )
            self._child = await _start(self._command)
            self._keepers.add(self._child.keeper)
            self._child.keeper.add_done_callback(self._keepers.discard)
        return self._child

    def _lose(self, child: Child) -> None:
        child.end()
        self._child = None
        self._failures += 1
        backoff_s = BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
        self._again_at = asyncio.get_running_loop().time() + backoff_s


async def _start(command: Sequence[str]) -> Child:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=ENVIRONMENT,
            cwd="/",
            limit=LARGEST_ANSWER_BYTES,
            start_new_session=True,  # Ctrl-C is for the controller: the judge ends after it
        )
    except OSError as error:
        raise Unavailable(f"the judge's process cannot be started: {error}", "See to this machine's limits") from error
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError(process)
    words: list[bytes] = []
    keeper = asyncio.create_task(_kept(process, process.stderr, words), name="judge")
    return Child(process, process.stdin, process.stdout, keeper, words)


async def _kept(process: Process, errors: StreamReader, words: list[bytes]) -> None:
    number = 0
    while piece := await errors.read(TAIL_BYTES):
        words.append(piece)
        del words[:-2]
        number += 1
        if number <= MOST_PIECES:
            logger.warning("the judge's process says: %s", piece.decode(errors="replace").rstrip())
    await process.wait()


async def _answered(child: Child, question: bytes) -> Answer:
    try:
        child.questions.write(question)
        await child.questions.drain()
        return Answer.model_validate_json(await child.answers.readuntil(b"\n"))
    except (IncompleteReadError, ConnectionError) as error:
        child.end()
        words = await child.last_words()
        raise Unavailable(f"the judge's process ended: {words}", "It is started again") from error
    except LimitOverrunError as error:
        raise Unavailable(
            f"the judge's answer exceeds {LARGEST_ANSWER_BYTES} bytes", "It is started again, and asked anew"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Unavailable(
            f"the judge's answer is malformed at {where or 'its start'}: {first['msg']}", "It is started again"
        ) from error


def _no(answer: Answer) -> Permanent | Unavailable:
    if answer.no is None:
        raise TypeError(answer)
    kind = Permanent if answer.no.for_good else Unavailable
    return kind(answer.no.message, answer.no.way_out)
