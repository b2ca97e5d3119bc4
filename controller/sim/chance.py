"""Chance that belongs to the thing it decides, never to a stream of draws.

The same seed and name give the same number whoever asks, when, and how often: a run that was killed and one that was
not live in the same world.
"""

from __future__ import annotations

import hashlib
import math

_RESOLUTION = 2**53


def uniform(seed: int, *names: object) -> float:
    """In [0, 1), by SHA-256 of seed and names."""
    text = "\x1f".join((str(seed), *(str(name) for name in names)))
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / _RESOLUTION


def happens(probability: float, seed: int, *names: object) -> bool:
    return uniform(seed, *names) < probability


def whole(expected: float, seed: int, *names: object) -> int:
    """A whole number whose mean is `expected`: the one below or the one above."""
    return math.floor(expected + uniform(seed, *names))


def binomial(trials: int, probability: float, seed: int, *names: object) -> int:
    """Successes among `trials`, by inversion of one uniform number."""
    if trials == 0 or probability <= 0:
        return 0
    if probability >= 1:
        return trials
    drawn, odds = uniform(seed, *names), probability / (1 - probability)
    mass = (1 - probability) ** trials
    below, successes = mass, 0
    while below <= drawn and successes < trials:
        mass *= odds * (trials - successes) / (successes + 1)
        successes += 1
        below += mass
    return successes
