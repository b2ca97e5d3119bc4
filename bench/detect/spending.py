"""A test at the same alpha that wastes less of it: exact spending on the split of errors between the arms.

Ville's inequality is not tight: a mixture rarely hits 1/alpha exactly, and most of the budget is never spent. Given how
many requests each arm had and that a request failed, the canary's share of failures is known under the null, so the
chance of every outcome can be tracked as errors come in, and outcomes given up until the budget for that much
information is used up. The null may be composite: a smaller ratio only makes fewer canary errors more likely.

It holds for independent requests only. Unlike an e-value it cannot be tempered where errors come in bursts, which is
why it is measured here and not what the judge does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ours import NEVER
from .traffic import Arms, Numbers

MOST_CANARY_ERRORS = 60
HALF_SPENT_AT = 10.0  # errors of both arms


def first_crossings(arms: Arms, null_ratio: float, alpha: float) -> NDArray[np.int64]:
    """Per rollout, the window after which its number of canary errors has been given up; NEVER where none is.

    More canary errors than are tracked count as the most that are.
    """
    runs, windows = arms.canary_bad.shape
    chances = np.zeros((runs, MOST_CANARY_ERRORS + 1))  # under the null, of each number not given up so far
    chances[:, 0] = 1.0
    spent, seen, errors = np.zeros(runs), np.zeros(runs), np.zeros(runs, dtype=np.int64)
    found = np.full(runs, NEVER, dtype=np.int64)
    for window in range(windows):
        x, n, y, m = (counts[:, window] for counts in arms)
        telling = (n > 0) & (m > 0)
        bad = np.where(telling, x + y, 0)
        share = null_ratio * n / np.maximum(null_ratio * n + m, 1)
        for number in range(int(bad.max(initial=0))):
            chances = np.where((bad > number)[:, None], _one_more(chances, share), chances)
        errors += np.where(telling, x, 0)
        seen += bad
        left = alpha * seen / (seen + HALF_SPENT_AT) - spent
        given_up = _tail(chances) <= left[:, None]
        given_up &= (bad > 0)[:, None]
        spent += np.where(given_up, chances, 0.0).sum(axis=1)
        reached = given_up[np.arange(runs), np.minimum(errors, MOST_CANARY_ERRORS)]
        found = np.where(reached & (found == NEVER), window, found)
        chances = np.where(given_up, 0.0, chances)
    return found


def _one_more(chances: Numbers, share: Numbers) -> Numbers:
    """After one more error, which is the canary's with chance `share`."""
    moved = chances * share[:, None]
    after: Numbers = chances - moved
    after[:, 1:] += moved[:, :-1]
    after[:, -1] += moved[:, -1]
    return after


def _tail(chances: Numbers) -> Numbers:
    """Chance of each number of canary errors or more."""
    tail: Numbers = chances[:, ::-1].cumsum(axis=1)[:, ::-1]
    return tail
