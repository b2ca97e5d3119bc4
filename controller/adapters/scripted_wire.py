"""The Messages API's wire shape: which requests it takes, and how a reply looks, whole or as a stream of events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.adapters.scripted_book import Said
from controller.domain.ids import canonical, digest_bytes

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
BYTES_PER_TOKEN = 4  # for usage that is plausible and always the same; nothing is tokenised
UNCACHED_TOKENS = 3
TEXT_CHUNK = 40
JSON_CHUNK = 60

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

Event = tuple[str, dict[str, Any]]


class Invalid(Exception):  # noqa: N818 - a verdict on a request
    """The API would not take this request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    error = {"type": ERROR_TYPES[status], "message": message}
    return {"type": "error", "error": error, "request_id": request_id}


# --- requests -------------------------------------------------------------------------------------------------------


def check_headers(headers: Mapping[str, str], api_key: str | None) -> None:
    """The key is `x-api-key` or, from newer clients, a bearer token. `api_key=None`: any will do. Raises Invalid."""
    given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if not given:
        raise Invalid(401, "x-api-key header is required")
    if api_key is not None and given != api_key:
        raise Invalid(401, "invalid x-api-key")
    if not headers.get("anthropic-version"):
        raise Invalid(400, "anthropic-version: header is required")


def check_request(request: Any) -> None:
    """Raises Invalid, in the API's words, for what the API would not take."""
    if not isinstance(request, dict):
        raise Invalid(400, "The request body is not valid JSON")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(request.get(name), kind):
            raise Invalid(400, f"{name}: Field required")
    if request["max_tokens"] < 1:
        raise Invalid(400, "max_tokens: Input should be greater than or equal to 1")
    if not request["model"].startswith("claude-"):
        raise Invalid(404, f"model: {request['model']}")
    for index, tool in enumerate(request.get("tools", [])):
        if not TOOL_NAME.fullmatch(tool.get("name", "")):
            raise Invalid(400, f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    _check_messages(request["messages"])


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    if not messages:
        raise Invalid(400, "messages: at least one message is required")
    called: list[str] = []
    for index, message in enumerate(messages):
        expected = "assistant" if index % 2 else "user"
        if message.get("role") != expected:
            raise Invalid(400, f"messages.{index}: roles must alternate, expected {expected!r}")
        blocks = _content(index, message.get("content"))
        if expected == "user":
            _check_answers(index, blocks, called)
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
    if messages[-1]["role"] == "assistant":
        raise Invalid(400, "the conversation must end with a user message")


def _content(index: int, content: Any) -> list[Mapping[str, Any]]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list) or not blocks:
        raise Invalid(400, f"messages.{index}: all messages must have non-empty content")
    for block in blocks:
        if block.get("type") == "text" and not block.get("text", "").strip():
            raise Invalid(400, "messages: text content blocks must be non-empty")
        if block.get("type") == "tool_use" and not isinstance(block.get("input"), dict):
            raise Invalid(400, f"messages.{index}.content: tool_use.input: Input should be an object")
    return blocks


def _check_answers(index: int, blocks: list[Mapping[str, Any]], called: list[str]) -> None:
    answered = [block.get("tool_use_id") for block in blocks if block["type"] == "tool_result"]
    missing = [one for one in called if one not in answered]
    if missing:
        raise Invalid(
            400,
            f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message.",
        )
    unexpected = [one for one in answered if one not in called]
    if unexpected:
        raise Invalid(400, f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {unexpected[0]}")
    kinds = [block["type"] for block in blocks]
    if "tool_result" in kinds[len(answered) :]:
        raise Invalid(400, f"messages.{index}: `tool_result` blocks must come before other content")


# --- replies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A reply as the API would give it whole."""

    id: str
    model: str
    content: tuple[dict[str, Any], ...]
    stop_reason: str
    usage: dict[str, int]

    def body(self) -> dict[str, Any]:
        return self._shell(self.usage) | {"content": list(self.content), "stop_reason": self.stop_reason}

    def events(self) -> Iterator[Event]:
        """The same reply in pieces, in the API's order."""
        yield "message_start", {"type": "message_start", "message": self._shell(self.usage | {"output_tokens": 1})}
        yield "ping", {"type": "ping"}
        for index, block in enumerate(self.content):
            yield from _block_events(index, block)
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": delta, "usage": self.usage}
        yield "message_stop", {"type": "message_stop"}

    def _shell(self, usage: dict[str, int]) -> dict[str, Any]:
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model} | empty


def message_of(request: Mapping[str, Any], said: Said, stop_reason: str = "") -> Message:
    """`stop_reason` empty: what follows from the calls. The same request gives the same ids."""
    seed = digest_bytes(canonical({"messages": request["messages"]})).removeprefix("sha256:")[:16]
    content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    for index, call in enumerate(said.calls):
        use = {"type": "tool_use", "id": f"toolu_scripted_{seed}_{index}", "name": call.tool, "input": call.arguments}
        content.append(use)
    stop = stop_reason or ("tool_use" if said.calls else "end_turn")
    usage = usage_of(request, canonical({"content": content}))
    return Message(f"msg_scripted_{seed}", request["model"], tuple(content), stop, usage)


def usage_of(request: Mapping[str, Any], reply: bytes) -> dict[str, int]:
    """What the last request held is read from the cache; what came since is written to it."""
    messages = list(request["messages"])
    head = {"system": request.get("system", ""), "tools": request.get("tools", [])}
    seen = max(0, len(messages) - 2)
    total = _tokens(canonical(head | {"messages": messages}))
    read = _tokens(canonical(head | {"messages": messages[:seen]})) if seen else 0
    return {
        "input_tokens": UNCACHED_TOKENS,
        "cache_creation_input_tokens": max(0, total - read),
        "cache_read_input_tokens": read,
        "output_tokens": _tokens(reply),
    }


def _tokens(content: bytes) -> int:
    return -(-len(content) // BYTES_PER_TOKEN)


def _block_events(index: int, block: dict[str, Any]) -> Iterator[Event]:
    is_text = block["type"] == "text"
    begin = {"type": "text", "text": ""} if is_text else block | {"input": {}}
    whole = block["text"] if is_text else json.dumps(block["input"])
    pieces = _pieces(whole, TEXT_CHUNK) if is_text else ["", *_pieces(whole, JSON_CHUNK)]
    kind, name = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
    yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": begin}
    for piece in pieces:
        delta = {"type": kind, name: piece}
        yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": index}


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def sse(event: Event) -> bytes:
    name, payload = event
    return f"event: {name}\ndata: {json.dumps(payload)}\n\n".encode()
