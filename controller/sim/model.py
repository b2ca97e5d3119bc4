"""A model that plays from a book: for every task the files it writes, try by try, and those that mend the change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.domain.events import Label
from controller.domain.money import Usage
from controller.errors import Permanent
from controller.ports import ModelReply, ModelRequest
from controller.sim.clock import SimClock

Files = Mapping[str, str]
USAGE = Usage(input_tokens=2_000, output_tokens=400)


@dataclass(frozen=True, slots=True)
class Play:
    """`tries[n]` is written in session n+1, the last one also later; `fixes` likewise by the delivery that fixes it."""

    tries: tuple[Files, ...]
    fixes: tuple[Files, ...] = ()


@dataclass
class SimModel:
    """`Model`. A task is found in the book by its title, which stands in the conversation's first message."""

    clock: SimClock
    book: dict[str, Play] = field(default_factory=dict)
    seconds: float = 0.0  # of virtual time that a reply takes
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)  # by session and turn: what was paid for
    label: Label = Label.SIMULATED

    async def reply(self, request: ModelRequest) -> ModelReply:
        if self.seconds:
            await self.clock.sleep(self.seconds)
        self.asked[request.session, request.turn] += 1
        files = self._files(request)
        content, stop = (_writing(request, files), "tool_use") if request.turn == 0 else (_done(files), "end_turn")
        name = f"sim-{request.session}-{request.turn}"
        return ModelReply(content, stop, USAGE, request.model, name, self.label)

    def _files(self, request: ModelRequest) -> Files:
        first = str(request.messages[0]["content"])
        title = next((title for title in self.book if title in first), None)
        if title is None:
            raise Permanent("no play in the book is for this task", "Add one to SimModel.book")
        delivery, _, iteration = request.session.rpartition("/")
        play = self.book[title]
        tries = play.fixes if delivery.endswith("-fix") else play.tries
        if not tries:
            raise Permanent(f"the play {title!r} has nothing for {delivery}", "Give it fixes")
        return tries[min(int(iteration), len(tries)) - 1]


def _writing(request: ModelRequest, files: Files) -> Sequence[Mapping[str, Any]]:
    calls = [
        {
            "type": "tool_use",
            "id": f"call-{request.turn}-{number}",
            "name": "write_file",
            "input": {"path": path, "text": text},
        }
        for number, (path, text) in enumerate(sorted(files.items()))
    ]
    return [{"type": "text", "text": "I write the files."}, *calls]


def _done(files: Files) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": f"Wrote {', '.join(sorted(files))}."}]
