"""A session's transcript: one blob that names, in order, every sealed text of the run.

It holds no text itself, so that erasing a key erases the words.
"""

from __future__ import annotations

import json
from typing import Any

from controller.domain.events import CallRecord, ReplyRecorded, SessionStarted, TurnRecorded
from controller.domain.ids import Digest, canonical
from controller.domain.sealed import Sealed
from controller.domain.session import Session
from controller.errors import Permanent
from controller.ports import Blobs, Seals

FORMAT = "flyball-transcript/1"
SAID = {"turn", "reply", "reply_sealed", "stop_reason", "usage", "model", "label"}


def transcript(session: Session, started: SessionStarted) -> bytes:
    """The same log gives the same bytes."""
    turns = [_turn(reply, session.turns) for reply in session.replies]
    manifest = {
        "format": FORMAT,
        "session": session.id,
        "model": started.model,
        "label": started.label.value,
        "prompt": started.prompt.model_dump(mode="json"),
        "prompt_digest": started.prompt_digest,
        "turns": turns,
    }
    return canonical(manifest)


def _turn(reply: ReplyRecorded, recorded: tuple[TurnRecorded, ...]) -> dict[str, Any]:
    calls: tuple[CallRecord, ...] = next((turn.calls for turn in recorded if turn.turn == reply.turn), ())
    said = reply.model_dump(mode="json", include=SAID)
    if reply.thinking_sealed is not None:
        said |= reply.model_dump(mode="json", include={"thinking", "thinking_sealed"})
    return said | {"calls": [call.model_dump(mode="json") for call in calls]}


async def read_transcript(digest: Digest, blobs: Blobs, seals: Seals) -> dict[str, Any]:
    """The transcript with its texts opened, each beside its `Sealed`. A text that cannot be opened says why."""
    manifest: dict[str, Any] = json.loads(await blobs.get(digest))
    manifest["prompt_text"] = await _opened(manifest["prompt"], seals)
    for turn in manifest["turns"]:
        turn["reply_text"] = await _opened(turn["reply_sealed"], seals)
        if turn.get("thinking_sealed"):
            turn["thinking_text"] = await _opened(turn["thinking_sealed"], seals)
        for call in turn["calls"]:
            call["result_text"] = await _opened(call["result_sealed"], seals) if call["result_sealed"] else ""
    return manifest


async def _opened(sealed: dict[str, Any], seals: Seals) -> str:
    try:
        return await seals.open(Sealed.model_validate(sealed))
    except Permanent as gone:
        return f"({gone.message})"
