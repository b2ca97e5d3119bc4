"""A model's thinking, kept apart from what it said.

Where a model returns its thinking, the blocks are sealed as a supplement beside the reply, with their digest in the
log. They go back to the model that thought them, in their places, for as long as its session lasts; nobody else is
shown them, no fold reads them, and when their key is destroyed the session goes on without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.agents.conversation import Reply
from controller.domain.ids import canonical
from controller.ports import ModelReply

KINDS = frozenset({"thinking", "redacted_thinking"})  # block types of the Messages API

Block = Mapping[str, Any]


def parted(reply: ModelReply) -> tuple[ModelReply, str | None]:
    """The reply without its thinking, and the thinking as text to seal. None: it returned none.

    Raises ValueError when the thinking cannot be stored as it is (a lone surrogate, a NaN).
    """
    thoughts = [(place, block) for place, block in enumerate(reply.content) if block.get("type") in KINDS]
    if not thoughts:
        return reply, None
    said = [block for block in reply.content if block.get("type") not in KINDS]
    text = canonical({"blocks": [dict(block) for _, block in thoughts], "places": [place for place, _ in thoughts]})
    return replace(reply, content=said), text.decode()


def joined(reply: Reply, thinking: str) -> Reply:
    """The reply as the model gave it."""
    raw = json.loads(thinking)
    content: list[Block] = list(reply.content)
    for place, block in zip(raw["places"], raw["blocks"], strict=True):
        content.insert(place, block)
    return Reply(tuple(content), reply.stop_reason)


def words_of(thinking: str) -> str:
    """For people: what can be read of it. Redacted blocks are the vendor's own ciphertext."""
    blocks: Sequence[Block] = json.loads(thinking)["blocks"]
    return "\n\n".join(str(block.get("thinking") or "(redacted by the vendor)") for block in blocks)
