"""Money is counted in millionths of a US dollar, in integers.

Prices are data with a date; an unknown model has no price and is refused.
"""

from __future__ import annotations

from datetime import date

from controller.domain.base import Fact
from controller.domain.ids import MicroUsd
from controller.errors import ConfigError


class Usage(Fact):
    """Tokens of one model call. `input_tokens` excludes what was read from or written to the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Price(Fact):
    """Micro-USD per million tokens, list price, valid from `since`."""

    model: str
    since: date
    input_per_mtok: int
    output_per_mtok: int
    cache_read_per_mtok: int
    cache_write_per_mtok: int


def _price(model: str, since: date, usd: tuple[float, float, float, float]) -> Price:
    read, write, cached, caching = (round(value * 1_000_000) for value in usd)
    return Price(
        model=model,
        since=since,
        input_per_mtok=read,
        output_per_mtok=write,
        cache_read_per_mtok=cached,
        cache_write_per_mtok=caching,
    )


# Published list prices in USD per million tokens (input, output, cache read, five-minute cache write), as of 2026-10.
PRICES = (
    _price("claude-opus-5-5", date(2026, 8, 1), (4.0, 20.0, 0.2, 5.0)),
    _price("claude-sonnet-5-5", date(2026, 10, 7), (2.0, 10.0, 0.10, 2.5)),
    _price("claude-haiku-5-5", date(2026, 8, 1), (0.5, 2.5, 0.05, 0.625)),
)


def price_of(model: str) -> Price:
    """The newest price of a model.

    Raises ConfigError for a model without one: spending that cannot be counted is refused.
    """
    found = [price for price in PRICES if price.model == model]
    if not found:
        known = ", ".join(sorted({price.model for price in PRICES}))
        raise ConfigError(f"agents.model is {model!r}, which has no price", f"Choose one of: {known}")
    return max(found, key=lambda price: price.since)


def cost_of(model: str, usage: Usage) -> MicroUsd:
    """List price of one call, rounded up to a whole micro-USD."""
    price = price_of(model)
    total = (
        usage.input_tokens * price.input_per_mtok
        + usage.output_tokens * price.output_per_mtok
        + usage.cache_read_tokens * price.cache_read_per_mtok
        + usage.cache_write_tokens * price.cache_write_per_mtok
    )
    return MicroUsd(-(-total // 1_000_000))


def usd(micro: int) -> str:
    return f"${micro / 1_000_000:.4f}"
