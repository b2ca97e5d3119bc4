"""Euro cents into the minor units of another currency, in whole numbers."""

from typing import Any

RATES = {"EUR": 10_000, "USD": 10_850, "GBP": 8_560, "CHF": 9_420}  # per 10,000 EUR


def convert(cents: int, currency: str) -> int:
    """`cents` (euro, never negative) in minor units of `currency`; halves round up."""
    return (cents * RATES[currency] + 5_000) // 10_000


def learn(today: Any) -> None:
    """Today's rates of the currencies that the shop takes. Raises `ValueError`, and learns nothing then."""
    if not isinstance(today, dict) or not all(type(today.get(name)) is int and today[name] > 0 for name in RATES):
        raise ValueError(f"rates must be a positive whole number for each of {', '.join(RATES)}")
    RATES.update({name: today[name] for name in RATES})
