"""Which tests came, changed and went, and which of that makes them prove less.

Whether a test was weakened to pass or changed because the task asked for another behaviour is nothing that code can
see: both change what is expected together with the program. So whatever proves less is noted, and only what has a
reason that the change's author cannot have made up is let be: the assertion stands elsewhere, the test was moved or
renamed whole, the feature that it tested went and the task speaks of removing, or the task itself, which a person
wrote, states the value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.domain.ci import clear_name
from controller.facts.functions import Assertion, TestFile, TestFunction
from controller.facts.tree import Noted

_NOTHING = TestFile(())
_TOLERANCE = re.compile(r"approx|delta|places|closeto|within|isclose|epsilon|toler|rel_|abs_|rtol|atol", re.IGNORECASE)
_BECOMES = (
    r"(?<!\w)(?:to|becomes?|be|is|are|returns?|equals?|says?|shows?|costs?|prints?|gives?|exactly)\b|[=:]|->|\u2192"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class TestedFile:
    __test__ = False
    path: str
    former: str
    before: TestFile | None  # None: it is new
    after: TestFile | None  # None: it is gone


@dataclass(frozen=True, slots=True)
class Placed:
    """A test and where it stands."""

    path: str
    test: TestFunction

    @property
    def clear(self) -> str:
        return clear_name(f"{self.path}::{self.test.runner_name}") if self.test.runner_name else ""

    def noted(self, rule: str, words: str = "", *, line: int | None = None, asked: bool = False) -> Noted:
        words = words or self.test.name
        return Noted(rule=rule, path=self.path, line=line or self.test.line, words=words, asked=asked, test=self.clear)


@dataclass
class Compared:
    touched: list[Noted] = field(default_factory=list)
    weakened: list[Noted] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Context:
    """What the rest of the change tells: definitions that went from the sources, ones that came, and the task."""

    gone: frozenset[str]
    came: frozenset[str]
    task: str
    second_verdict: bool = True  # whether the base's own tests are run against the head
    asked: frozenset[str] = frozenset()  # of those that are gone: the task speaks of removing them

    def went(self, names: Iterable[str]) -> bool:
        """Something among these is gone, and the task speaks of removing all of it that is."""
        gone = self.gone.intersection(names)
        return bool(gone) and gone <= self.asked

    def names(self, word: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", self.task.lower()) is not None

    def states(self, literals: Iterable[str]) -> bool:
        """The task says of every one of these values that it is what comes out. False for none: nothing was stated.

        A number that merely stands in the task is no such statement: "the price of product 2" does not make a price 2.
        """
        values = [one.strip("\"'`") for one in literals]
        return bool(values) and all(value and self._has(value) for value in values)

    def _has(self, value: str) -> bool:
        words = re.escape(value.lower().replace("_", ""))
        found = re.search(rf"(?:{_BECOMES})\s*[\"'`]?{words}(?!\w|\.\d)", self.task.lower())
        return found is not None


def compared(files: list[TestedFile], context: Context) -> Compared:
    result, survivors = Compared(), _all_assertions(files)
    pairs, came, went = _matched(files)
    pairs, came, went = _found_elsewhere(result, pairs, came, went, context)
    helpers = frozenset(name for one in files if one.after for name in one.after.names)
    elsewhere = helpers | {name for new in came for name in new.test.names}
    for old in went:
        _removed(result, old, came, survivors, context)
    for one in files:
        if one.after is None and one.before is not None and _went_whole(one.before, context):
            words = Noted(rule="test/file-removed-with-feature", path=one.former, test=clear_name(one.former))
            result.touched.append(words)
    for new in came:
        rule = "test/added" if new.test.asserts else "test/without-assertion"
        result.touched.append(new.noted(rule))
        if new.test.off:
            result.touched.append(new.noted("test/added-switched-off", ", ".join(new.test.off)))
    imported = {one.former: one.before.imported for one in files if one.before}
    for old, new in pairs:
        _changed(result, old, new, survivors, context)
        lost = (old.test.names & imported.get(old.path, frozenset())) - new.test.names - elsewhere - context.gone
        if lost and new.test.assertions:
            result.weakened.append(new.noted("weakened/subject-lost", f"{new.test.name}: {', '.join(sorted(lost))}"))
    for one in files:
        result.weakened += [
            *_whole_file(one, second_verdict=context.second_verdict),
            *_replaced(one, context),
            *_helpers(one, survivors, context),
        ]
    return result


def _went_whole(before: TestFile, context: Context) -> bool:
    """Every test of a file that is gone was of what the task asked to remove."""
    return bool(before.tests) and all(context.went(test.names) for test in before.tests)


def _helpers(one: TestedFile, survivors: Counter[str], context: Context) -> Iterator[Noted]:
    """Assertions that tests shared, and that stand nowhere any more."""
    for lost in (one.before or _NOTHING).helpers:
        gone = context.went(_WORD.findall(lost.shape))
        if lost.strength and not lost.swallowed and not survivors[lost.text] and not gone:
            yield Noted(rule="weakened/helper-changed", path=one.path, words=lost.text)


def _replaced(one: TestedFile, context: Context) -> Iterator[Noted]:
    """What the tests had from the program and now have from somewhere in their own file."""
    before, after = one.before or _NOTHING, one.after or _NOTHING
    used = {name for test in after.tests for name in test.names}
    for name in sorted((before.imported - after.imported - context.gone) & used & after.names):
        yield Noted(rule="weakened/subject-replaced", path=one.path, words=name)


def _all_assertions(files: list[TestedFile]) -> Counter[str]:
    """Those that can fail, on the head."""
    tests = [test for one in files if one.after for test in one.after.tests if not test.off]
    asserted = [a for test in tests for a in test.assertions]
    asserted += [a for one in files if one.after for a in one.after.helpers]
    return Counter(a.text for a in asserted if a.strength and not a.swallowed)


Pairs = list[tuple[Placed, Placed]]


def _matched(files: list[TestedFile]) -> tuple[Pairs, list[Placed], list[Placed]]:
    """Pairs of the same name in the same file; then what is left on the head, and on the base."""
    pairs, came, went = Pairs(), list[Placed](), list[Placed]()
    for one in files:
        old = [Placed(one.former, test) for test in (one.before or _NOTHING).tests]
        new = {test.name: Placed(one.path, test) for test in (one.after or _NOTHING).tests}
        for placed in old:
            if (match := new.pop(placed.test.name, None)) is not None:
                pairs.append((placed, match))
            else:
                went.append(placed)
        came += new.values()
    return pairs, came, went


def _found_elsewhere(
    result: Compared, pairs: Pairs, came: list[Placed], went: list[Placed], context: Context
) -> tuple[Pairs, list[Placed], list[Placed]]:
    """Moved under the same name, or renamed with the same body."""
    left = list[Placed]()
    for old in went:
        same = next((new for new in came if new.test.off == old.test.off and _same_body(old, new, context)), None)
        named = next((new for new in came if _last(new) == _last(old) and new.path != old.path), None)
        found = same or named
        if found is None:
            left.append(old)
            continue
        came = [new for new in came if new is not found]
        pairs = [*pairs, (old, found)]
        result.touched.append(old.noted("test/moved" if _last(found) == _last(old) else "test/renamed"))
    return pairs, came, left


def _same_body(old: Placed, new: Placed, context: Context) -> bool:
    """But for names that the sources have given up for others."""
    if old.test.body == new.test.body:
        return True
    if _WORD.sub("w", old.test.body) != _WORD.sub("w", new.test.body):
        return False
    words = zip(_WORD.findall(old.test.body), _WORD.findall(new.test.body), strict=False)
    return all(a == b or (a in context.gone and b in context.came) for a, b in words)


def _last(placed: Placed) -> str:
    return placed.test.name.rpartition(".")[2]


def _removed(result: Compared, old: Placed, came: list[Placed], survivors: Counter[str], context: Context) -> None:
    test = old.test
    kept = [one for one in test.assertions if survivors[one.text]]
    if test.assertions and len(kept) == len(test.assertions) and came:
        result.touched.append(old.noted("test/renamed"))
    elif context.went(test.names) or any(context.names(name) for name in test.names & context.gone):
        result.touched.append(old.noted("test/removed-with-feature"))
    else:
        result.touched.append(old.noted("test/removed"))
        result.weakened.append(old.noted("weakened/test-removed", asked=context.names(_last(old))))


def _changed(result: Compared, old: Placed, new: Placed, survivors: Counter[str], context: Context) -> None:
    before, after = old.test, new.test
    known = Counter(one.text for one in before.assertions)
    fresh = [one for one in after.assertions if not known[one.text]]
    lost = [one for one in before.assertions if not survivors[one.text] and one.strength and not one.swallowed]
    for one in lost:
        if any(other.text == one.text and other.swallowed for other in after.assertions):
            words = f"{new.test.name}: {one.text}"
            result.weakened.append(new.noted("weakened/swallowed", words, line=one.line))
        else:
            _lost(result, new, one, fresh, context)
    if any(one.strength and not one.swallowed for one in fresh):
        result.touched.append(new.noted("test/changed"))
    elif before.body != after.body:
        result.touched.append(new.noted("test/edited"))
    for rule, more in (
        ("weakened/switched-off", sorted((Counter(after.off) - Counter(before.off)).elements())),
        ("weakened/patched", [str(after.patches)] if after.patches > before.patches else []),
    ):
        if more:
            asked = rule == "weakened/switched-off" and context.names(_last(new))
            result.weakened.append(new.noted(rule, f"{new.test.name}: {', '.join(more)}", asked=asked))


def _lost(result: Compared, new: Placed, one: Assertion, fresh: list[Assertion], context: Context) -> None:
    words = f"{new.test.name}: {one.text}"
    if (same := next((other for other in fresh if other.shape == one.shape), None)) is not None:
        if same.swallowed:
            result.weakened.append(new.noted("weakened/swallowed", words, line=same.line))
            return
        changed = [b for a, b in zip(one.literals, same.literals, strict=False) if a != b]
        asked = context.states(changed) and same.strength >= one.strength
        tolerance = _TOLERANCE.search(one.shape) is not None
        rule = "weakened/tolerance" if tolerance else "weakened/expectation-changed"
        if asked and not tolerance:
            result.touched.append(new.noted("test/expectation-asked", words, line=same.line, asked=True))
        else:
            result.weakened.append(new.noted(rule, words, line=same.line))
    elif any(_renamed(one, other, context) or _stronger(one, other) for other in fresh):
        result.touched.append(new.noted("test/subject-renamed", words))
    elif context.went(_WORD.findall(one.shape)):
        result.touched.append(new.noted("test/assertion-removed-with-feature", words))
    else:
        result.weakened.append(new.noted(_rule_of_lost(one, fresh), words))


def _rule_of_lost(one: Assertion, fresh: list[Assertion]) -> str:
    if any(other.strength < one.strength for other in fresh):
        return "weakened/assertion-loosened"
    return "weakened/assertion-changed" if fresh else "weakened/assertion-removed"


def _renamed(one: Assertion, other: Assertion, context: Context) -> bool:
    """The same but for names that the sources no longer have, in whose place stand names that they have now."""
    if one.literals != other.literals or _skeleton(one) != _skeleton(other) or other.swallowed:
        return False
    old, new = _WORD.findall(one.shape), _WORD.findall(other.shape)
    return all(a == b or (a in context.gone and b in context.came) for a, b in zip(old, new, strict=False))


def _skeleton(one: Assertion) -> str:
    return _WORD.sub("w", one.shape)


def _stronger(one: Assertion, other: Assertion) -> bool:
    """Says more about the same names."""
    words = set(_WORD.findall(one.shape)) - {"_", "None", "True", "is", "not", "assert"}
    return other.strength > one.strength and not other.swallowed and words <= set(_WORD.findall(other.shape))


def _whole_file(one: TestedFile, *, second_verdict: bool) -> Iterator[Noted]:
    """Without the base's own tests as a second verdict, whatever tests share is looked at as well."""
    before, after = one.before or _NOTHING, one.after or _NOTHING
    more = sorted((Counter(after.off) - Counter(before.off)).elements())
    if more and one.before is not None:
        yield Noted(rule="weakened/switched-off", path=one.path, words=", ".join(more))
    if ends := sorted((Counter(after.ends) - Counter(before.ends)).elements()):
        yield Noted(rule="weakened/decides-the-run", path=one.path, words=", ".join(ends))
    if not second_verdict and (lost := sorted((Counter(before.outside) - Counter(after.outside)).elements())):
        yield Noted(rule="weakened/helper-changed", path=one.path, words=lost[0])
    if after.only > before.only:
        yield Noted(rule="weakened/only", path=one.path, words=f"{after.only} times")
