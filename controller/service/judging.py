"""The judge as a process of its own, which may look at production and cannot change it.

    python -m controller.service.judging --edge STATE/edge --blobs STATE/blobs --label live

Questions come on standard input and answers go to standard output, one JSON object a line; the words on standard error
are for people. It holds the edge's token that only looks, reads sealed counts, keeps nothing and writes no file: the
kernel refuses it any (`RLIMIT_FSIZE`). It knows neither the log nor the gate, nor a key. When its standard input
closes, its controller has ended, and so does it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
from asyncio import IncompleteReadError, StreamReader, StreamReaderProtocol
from collections.abc import Sequence
from pathlib import Path

from controller.adapters.blobs_read import ReadBlobs
from controller.adapters.edge_client import EdgeLink, EdgeTelemetry
from controller.adapters.judge_wire import LARGEST_QUESTION_BYTES, Answer, NoAnswer, Question
from controller.canary.court import InProcessCourt
from controller.domain.events import Label
from controller.errors import FlyballError, Temporary
from controller.ports import Court

ANSWERS, WORDS = 1, 2  # file descriptors


async def sit(court: Court, questions: StreamReader, answers: int) -> None:
    """Answer until nobody asks any more. `answers` is a file descriptor."""
    while (line := await _next(questions)) is not None:
        asked = Question.model_validate_json(line)
        say(answers, (await _answer(court, asked)).model_dump_json().encode() + b"\n")


async def _next(questions: StreamReader) -> bytes | None:
    """None: whoever asked has ended."""
    try:
        return await questions.readuntil(b"\n")
    except IncompleteReadError:
        return None


async def _answer(court: Court, asked: Question) -> Answer:
    try:
        return Answer(number=asked.number, seen=await court.look(asked.request))
    except FlyballError as error:
        no = NoAnswer(message=error.message, way_out=error.way_out, for_good=not isinstance(error, Temporary))
        return Answer(number=asked.number, no=no)


def say(answers: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(answers, left) :]


def give_up_writing() -> int:
    """Where answers go from now on. What else is printed is a word for people, and no file grows by this process."""
    answers = os.dup(ANSWERS)
    os.dup2(WORDS, ANSWERS)
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    return answers


async def run(edge: Path, blobs: Path, label: Label, answers: int) -> None:
    questions = StreamReader(limit=LARGEST_QUESTION_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: StreamReaderProtocol(questions), sys.stdin)
    link = EdgeLink(edge, read_only=True)
    try:
        await sit(InProcessCourt(EdgeTelemetry(link, label), ReadBlobs(blobs)), questions, answers)
    finally:
        await link.close()


def main(words: Sequence[str] | None = None) -> int:
    """`words=None`: `sys.argv`."""
    options = argparse.ArgumentParser(prog="flyball-judge", description="Looks at canaries. Changes nothing.")
    options.add_argument("--edge", required=True, type=Path)
    options.add_argument("--blobs", required=True, type=Path)
    options.add_argument("--label", type=Label, choices=tuple(Label), default=Label.LIVE)
    arguments = options.parse_args(words)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    answers = give_up_writing()
    try:
        asyncio.run(run(arguments.edge, arguments.blobs, arguments.label, answers))
    except BrokenPipeError:
        return 0  # whoever asked has ended while it looked
    return 0


if __name__ == "__main__":
    sys.exit(main())
