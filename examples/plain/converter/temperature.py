"""Temperatures from one scale to another."""

ABSOLUTE_ZERO_CELSIUS = -273.15


class TooColdError(ValueError):
    """Nothing is that cold."""


def fahrenheit(celsius: float) -> float:
    """Raises TooColdError below absolute zero."""
    if celsius < ABSOLUTE_ZERO_CELSIUS:
        raise TooColdError(f"{celsius} °C is below absolute zero")
    return round(celsius * 9 / 5 + 32, 2)
