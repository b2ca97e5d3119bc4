"""The port `Model` over Anthropic's Messages API, or anything that speaks it.

Replies are streamed, so that silence is noticed within the stall bound instead of after ten minutes. What was rejected
before it began (rate limits, overload) is retried by the client; what broke off in the middle may have been paid for,
so whether to ask again is the caller's decision: `Unavailable`. The loop around tools is the session's own; the
client's tool runner is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2
from anthropic import APIConnectionError, APIResponseValidationError, APIStatusError, AsyncAnthropic
from anthropic.types import Message, MessageParam, TextBlockParam, ToolParam

from controller.domain.events import Label
from controller.domain.money import Usage
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ports import ModelReply, ModelRequest, ToolSpec

CONNECT_S = 10.0
SCRIPTED_PREFIX = "msg_scripted_"  # ids of the scripted server: never to be taken for a live model's

TRANSIENT_STATUS = frozenset({408, 409, 429})
SERVER_ERRORS = 500
# A stream that fails after its 200 names its reason only in the error's type.
TRANSIENT_TYPES = frozenset({"overloaded_error", "rate_limit_error", "api_error", "timeout_error"})
WAY_OUT = {
    400: "The request itself is at fault: look at the session's transcript",
    401: "Set ANTHROPIC_API_KEY to a key that is valid",
    402: "Settle the account's billing, then `flyball retry`",
    403: "Give the key access to this model, or choose another in agents.model",
    404: "Choose a model that exists in agents.model",
    413: "Lower agents.prompt_bytes: the conversation is larger than the API takes",
}
# What the client raises for a stream that makes no sense: arguments no JSON, events out of order, no event at all.
UNREADABLE = (APIResponseValidationError, ValueError, RuntimeError, AssertionError)
CACHED: Any = {"type": "ephemeral"}


class AnthropicModel:
    """`label` is LIVE for the real API; whoever points `base_url` elsewhere says what it is."""

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,  # None: the API's own address
        label: Label = Label.LIVE,
        stall_s: float = 90.0,
        max_retries: int = 2,
    ) -> None:
        if not api_key:
            raise ConfigError("the model needs an API key and has none", WAY_OUT[401])
        timeout = httpx2.Timeout(stall_s, connect=CONNECT_S)
        self._client = AsyncAnthropic(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=max_retries)
        self._label = label

    @property
    def label(self) -> Label:
        return self._label

    async def reply(self, request: ModelRequest) -> ModelReply:
        """See `ports.Model`. The system prompt and the conversation so far are cached for five minutes."""
        system: list[TextBlockParam] = [{"type": "text", "text": request.system, "cache_control": CACHED}]
        with _errors_in_our_words():
            async with self._client.messages.stream(
                model=request.model,
                max_tokens=request.max_tokens,
                system=system,
                messages=cast("list[MessageParam]", list(request.messages)),
                tools=[_tool(tool) for tool in request.tools],
                cache_control=CACHED,
            ) as stream:
                message = await stream.get_final_message()
                request_id = stream.request_id
        return self._told(message, request_id or message.id)

    async def close(self) -> None:
        await self._client.close()

    def _told(self, message: Message, request_id: str) -> ModelReply:
        if message.stop_reason is None:
            raise Unavailable("the reply was cut off before it was complete")
        scripted = message.id.startswith(SCRIPTED_PREFIX)
        return ModelReply(
            content=[_block(block) for block in message.content],
            stop_reason=message.stop_reason,
            usage=_usage(message),
            model=message.model,
            request_id=request_id,
            label=Label.SCRIPTED if scripted else self._label,
        )


def _tool(tool: ToolSpec) -> ToolParam:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.input_schema)}


def _block(block: Any) -> dict[str, Any]:
    """As it may be sent back: without what the client has added or left empty."""
    content: dict[str, Any] = block.to_dict(mode="json")
    return {name: value for name, value in content.items() if value is not None and name != "parsed_output"}


def _usage(message: Message) -> Usage:
    usage = message.usage
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        cache_write_tokens=usage.cache_creation_input_tokens or 0,
    )


@contextmanager
def _errors_in_our_words() -> Iterator[None]:
    """Codes and types only: log entries quote our words, and the API's own stay in the chained exception."""
    try:
        yield
    except APIStatusError as error:
        raise _of_status(error) from error
    except (APIConnectionError, httpx2.HTTPError) as error:
        raise Unavailable(f"the Messages API broke off ({type(error).__name__})", "It is asked again") from error
    except UNREADABLE as error:
        raise Unavailable(f"the reply could not be read ({type(error).__name__})", "It is asked again") from error


def _of_status(error: APIStatusError) -> Permanent | Unavailable:
    what = f"the Messages API answered {error.status_code} {error.type or 'without a reason'}"
    status = error.status_code
    if status in TRANSIENT_STATUS or status >= SERVER_ERRORS or error.type in TRANSIENT_TYPES:
        return Unavailable(what, "It is asked again")
    return Permanent(what, WAY_OUT.get(status, WAY_OUT[400]))
