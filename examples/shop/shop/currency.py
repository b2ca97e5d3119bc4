"""Euro cents into the minor units of another currency, at fixed rates, in whole numbers."""

RATES = {"EUR": 10_000, "USD": 10_850, "GBP": 8_560, "CHF": 9_420}  # per 10,000 EUR


def convert(cents: int, currency: str) -> int:
    """`cents` (euro, never negative) in minor units of `currency`; halves round up."""
    return (cents * RATES[currency] + 5_000) // 10_000
