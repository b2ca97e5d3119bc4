"""Who stands on the failing stacks, counted: the ground on which blame and its rivals stand.

A trace is the canary's when it went through it, else the baseline's when it went through that. Both arms were served
side by side at one weight, so the failing ones fall to the canary by its share of all traces wherever a change has
nothing to do with it: the same test as for the canary as a whole (`eprocess`, E1), on the failures that passed through
one change's files alone. Sampling by trace id takes from both arms alike and leaves the test as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.canary.eprocess import TwoArms, log_e, multiples, rare_event_increments, threshold_micro, to_micro
from controller.domain.counts import TraceGroup
from controller.domain.verdict import JudgeConfig

ALIKE_RATIO = 2.0  # arms fail alike when it is shown that the canary fails less than so many times as often


@dataclass(frozen=True, slots=True)
class Arms:
    """The two nodes compared, as "service@version"."""

    canary: str
    baseline: str

    def is_canary(self, group: TraceGroup) -> bool | None:
        """None: it went through neither. One that went through both, by a retry, met the canary."""
        if self.canary in group.through:
            return True
        return False if self.baseline in group.through else None

    def count(self, groups: Iterable[TraceGroup], failing: Collection[TraceGroup] | None = None) -> TwoArms:
        """Failing of all traces by arm. `failing=None`: whatever failed; else those among them count as bad."""
        bad, total = [0, 0], [0, 0]
        for group in groups:
            if (canary := self.is_canary(group)) is None:
                continue
            arm = 0 if canary else 1
            total[arm] += group.traces
            if group.origin is not None and (failing is None or group in failing):
                bad[arm] += group.traces
        return TwoArms(bad[0], total[0], bad[1], total[1])


def worse_micro(arms: TwoArms, phi_milli: int, config: JudgeConfig) -> int:
    """Log e-value, in micro-nats, against "the canary fails at most theta0 times as often as the baseline"."""
    tolerated = config.theta0_milli / 1000
    ratios = [tolerated * multiple for multiple in multiples(config)]
    return to_micro(log_e(rare_event_increments(arms, tolerated, ratios), phi_milli))


def alike_micro(arms: TwoArms, phi_milli: int, config: JudgeConfig) -> int:
    """Log e-value, in micro-nats, against "the canary fails at least `ALIKE_RATIO` times as often"."""
    ratios = [ALIKE_RATIO / multiple for multiple in multiples(config)]
    return to_micro(log_e(rare_event_increments(arms, ALIKE_RATIO, ratios), phi_milli))


def fail_alike(arms: TwoArms, phi_milli: int, config: JudgeConfig) -> bool:
    """Shown at `page_alpha`, and not merely unknown: few failures show nothing."""
    return alike_micro(arms, phi_milli, config) >= threshold_micro(config.page_alpha_ppm)


@dataclass(frozen=True, slots=True)
class Standing:
    """One change on the failing stacks."""

    arms: TwoArms  # failing: those through its files
    deepest: int  # canary failures whose innermost changed file is its own
    broke: int  # canary failures whose innermost file of all is its own
    files: tuple[str, ...]  # of its own, on the canary's failing stacks, by name


NOBODY = ""  # failures with files on their stack that no change of the release touched


def standings(changed: Mapping[str, Sequence[str]], groups: Sequence[TraceGroup], arms: Arms) -> dict[str, Standing]:
    """By name of the change, for its files as the repository names them, and for `NOBODY`."""
    index = _Index(changed)
    everything = arms.count(groups, ())
    bad: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    deepest, broke, files = Counter[str](), Counter[str](), defaultdict[str, set[str]](set)
    for group in groups:
        canary = arms.is_canary(group)
        if canary is None or group.origin is None:
            continue
        found = [(file, index.who(file)) for file in group.files]
        for name in {name for _, who in found for name in who} or ({NOBODY} if found else ()):
            bad[name][0 if canary else 1] += group.traces
        if canary:
            for name in found[0][1] if found else ():
                broke[name] += group.traces
            for name in next((who for _, who in found if who), frozenset()):
                deepest[name] += group.traces
            for _, who in found:
                for name, file in who.items():
                    files[name].add(file)
    return {
        name: Standing(
            TwoArms(bad[name][0], everything.canary_total, bad[name][1], everything.baseline_total),
            deepest[name],
            broke[name],
            tuple(sorted(files[name])),
        )
        for name in (*changed, NOBODY)
    }


def same_file(on_stack: str, changed: str) -> bool:
    """Whether a path as a process knew it is a path of the repository.

    Either may be longer at the front. What is left must have a folder in it: half of all repositories have an `app.py`.
    """
    if on_stack == changed:
        return True
    shorter, longer = sorted((on_stack, changed), key=len)
    return "/" in shorter and longer.endswith(f"/{shorter}")


class _Index:
    """Which changes touched a file that stands on a stack; by base name first, since there are many of both."""

    def __init__(self, changed: Mapping[str, Sequence[str]]) -> None:
        self._by_base: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        self._known: dict[str, Mapping[str, str]] = {}
        for name, files in sorted(changed.items()):
            for file in files:
                self._by_base[file.rpartition("/")[2]].append((name, file))

    def who(self, on_stack: str) -> Mapping[str, str]:
        """Their names, each with its own name of the file."""
        if on_stack not in self._known:
            same = self._by_base.get(on_stack.rpartition("/")[2], ())
            self._known[on_stack] = {name: file for name, file in same if same_file(on_stack, file)}
        return self._known[on_stack]
