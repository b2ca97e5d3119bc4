"""What a controller and its judge's process say to each other: one JSON object a line, each of them bounded."""

from __future__ import annotations

from controller.domain.base import Fact
from controller.ports import LookRequest, Seen

LARGEST_QUESTION_BYTES = 4 << 20  # some 30,000 sealed segments
LARGEST_ANSWER_BYTES = 16 << 20  # some hours of windows that nobody has looked at


class Question(Fact):
    number: int
    request: LookRequest


class NoAnswer(Fact):
    """Why there is nothing to see."""

    message: str
    way_out: str
    for_good: bool  # trying again cannot help


class Answer(Fact):
    number: int  # the question's
    seen: Seen | None = None  # None: `no` says why not
    no: NoAnswer | None = None  # None: it has looked
