"""Every number that a person may set has limits that hold to the digit, whichever section it stands in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from test_intake import House as Office
from test_intake import house as house  # noqa: PLC0414 - the fixture

from controller import settings, settings_sandbox
from controller.agents.conversation import cut
from controller.agents.graph import STALLS_PER_CALL, build_graph
from controller.domain import events as e
from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.verdict import JudgeConfig
from controller.intake import EVENT_ID_CHARS, WORDS_BYTES
from controller.wiring import model_of

EXAMPLES: dict[str, Any] = {
    "only": 'job="shop"',
    "errors": 'code="500"',
    "probes": "/health",
    "network": "db:1",
}  # where "x" is none of them
LIMITS = ("ge", "gt", "le", "lt", "min_length", "max_length")
MODELS: tuple[type[BaseModel], ...] = (
    Bounds,
    RolloutPlan,
    JudgeConfig,
    *(
        found
        for _, found in inspect.getmembers(settings, inspect.isclass)
        if issubclass(found, settings_sandbox.Section)
    ),
)


def limited() -> Iterator[Any]:
    """Model, field, limit and its value, of every one that is declared."""
    for model in MODELS:
        for name, field in model.model_fields.items():
            for what in field.metadata:
                for limit in LIMITS:
                    if (value := getattr(what, limit, None)) is not None:
                        yield pytest.param(name, field, limit, value, id=f"{model.__name__}.{name}-{limit}-{value}")


def value_at(limit: str, value: Any) -> tuple[Any, Any]:
    """The last that is allowed, and the first that is not."""
    if limit in ("ge", "gt"):
        least = value if limit == "ge" else value + 1
        return least, least - 1
    if limit in ("le", "lt"):
        most = value if limit == "le" else value - 1
        return most, most + 1
    beyond = value - 1 if limit == "min_length" else value + 1
    return value, beyond


@pytest.mark.parametrize(("name", "field", "limit", "value"), list(limited()))
def test_a_setting_takes_its_limit_and_nothing_beyond(name: str, field: Any, limit: str, value: Any) -> None:
    takes: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, *field.metadata])
    last, beyond = value_at(limit, value)
    if limit.endswith("length"):
        one = EXAMPLES.get(name, 500 if "milli" in name else "x")
        many = _named if field.default_factory is dict else _listed
        last, beyond = many(one, last), many(one, beyond)
    takes.validate_python(last)
    with pytest.raises(ValidationError):
        takes.validate_python(beyond)


def _listed(one: Any, number: int) -> Any:
    return [one] * number


def _named(_: Any, number: int) -> Any:
    return {f"N{count}": {"file": "x"} for count in range(number)}


def test_a_step_must_end_before_its_lease() -> None:
    assert Bounds(step_seconds=44, lease_seconds=45).step_seconds == 44
    with pytest.raises(ValidationError, match="step_seconds 45 must be below lease_seconds 45"):
        Bounds(step_seconds=45, lease_seconds=45)


# --- what a model is given and asked for ------------------------------------------------------------------------------


def test_a_result_is_told_whole_at_its_bound_and_cut_one_byte_beyond() -> None:
    assert cut("é" * 10, 20) == "é" * 10
    assert cut("é" * 10 + "x", 20) == "é" * 5 + "\n[... 1 bytes left out ...]\n" + "é" * 4 + "x"


def test_a_model_that_stalls_and_a_reply_that_trickles_have_their_seconds() -> None:
    nodes = build_graph(Bounds(model_stall_seconds=7, session_seconds=70), 0.0).nodes
    assert nodes["ask"].timeout is not None
    assert nodes["act"].timeout is not None
    assert (nodes["ask"].timeout.run_timeout, nodes["act"].timeout.run_timeout) == (7 * STALLS_PER_CALL, 70)
    chosen: Any = SimpleNamespace(api_key="x", base_url="http://127.0.0.1:1", label=e.Label.SCRIPTED)
    parsed = settings.parse({"bounds": {"model_stall_seconds": 7}})
    timeout = model_of(chosen, parsed)._client.timeout
    assert getattr(timeout, "read", None) == 7


# --- what people say --------------------------------------------------------------------------------------------------


async def test_an_event_is_known_by_its_own_name_at_the_bound_and_by_a_digest_beyond(house: Office) -> None:
    for size, kept in ((EVENT_ID_CHARS, "m" * EVENT_ID_CHARS), (EVENT_ID_CHARS + 1, "sha256:")):
        asked = await house.ask(event_id="m" * size)
        (first,) = await house.log.read(f"delivery/{asked.delivery}")  # type: ignore[arg-type]
        assert isinstance(first.event, e.TaskRequested)
        assert first.event.event_id.startswith(kept)
        assert len(first.event.event_id) <= EVENT_ID_CHARS


async def test_a_persons_words_are_kept_whole_at_the_bound_and_cut_beyond(house: Office) -> None:
    delivery = (await house.ask()).delivery
    for size in (WORDS_BYTES, WORDS_BYTES + 1):
        await house.intake.act("olga", "hold", delivery, event_id=f"m{size}", words="w" * size)
    assert [one.words.size for one in await house.said(delivery) if one.words] == [WORDS_BYTES] * 2
