"""The tests of files in languages other than Python, read by line patterns.

A test begins at a line that its language's tools take for one and ends where the next begins, or where a line that is
indented no deeper closes it. That is less than a parser sees: an assertion over several lines is known by its first
one, and what a macro makes is not seen. Every pattern looks at one line of at most `MOST_CHARS`, so the time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from controller.facts.functions import Assertion, TestFile, TestFunction
from controller.facts.languages import Language

MOST_CHARS = 2_000  # of a line
MOST_JOINED = 8  # lines of one assertion
_WORD = re.compile(r"[A-Za-z_]\w*")
_LITERAL = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|(?<![\w.])-?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TRIVIAL = re.compile(
    r"assert(?:True|_true)?[!(]\s*true\b|expect\(\s*(true|1|\"\w*\"|'\w*')\s*\)\.to(?:Be|Equal)\(\s*\1\s*\)"
    r"|assert(?:_eq|Equals?|Equal)?!?\(\s*(\w+)\s*,\s*\2\s*\)|XCTAssertTrue\(\s*true|Assert\.True\(\s*true"
)
_WEAK = re.compile(
    r"\.to(?:BeDefined|BeTruthy|BeInstanceOf|Exist)\b|\.to\.exist\b|not\.toBeNull|assertNotNull|is_some\(\)|is_ok\(\)"
    r"|\.NotNil\(|NotEmpty\(|XCTAssertNotNil|Assert\.NotNull|assertInstanceOf"
    r"|assertNotNil|be_truthy|not_to be_nil|expect\.any"
)


_ENDS = re.compile(
    r"\b(?:process\.(?:exit|abort|kill|reallyExit)|os\.Exit|syscall\.Exit|System\.exit|Runtime\.getRuntime\(\)\.halt"
    r"|exitProcess|process::(?:exit|abort)|std::_?[Ee]xit|quick_exit|Environment\.(?:Exit|FailFast)|Process\.exit!?)\s*\("
    r"|\bprocess\.exitCode\s*=|^\s*(?:exit|exit!|abort|_exit|die)\b\s*[(\d;]|func TestMain\("
)
_MAIN = "os.Exit(m.Run())"
_APART = re.compile(
    r"\s*(?://|#(?!\[)|/?\*|import\b|from\b|use\b|using\b|package\b|require|(?:const|let|var)\b.*\brequire\()"
)


@dataclass(frozen=True, slots=True)
class Grammar:
    test: re.Pattern[str]  # its first group that took part is the name
    assertion: re.Pattern[str]
    off: re.Pattern[str]
    comment: str = "//"
    mark: re.Pattern[str] | None = None  # a line before the function makes it a test. None: its name does
    only: re.Pattern[str] | None = None
    patch: re.Pattern[str] | None = None
    runner: str = ""  # how the runner calls it, "{name}" in place. "": not known here


_C = re.compile
_GRAMMARS = {
    Language.JAVASCRIPT: Grammar(
        test=_C(r"\s*(?:\w+\.)?(?:it|test|xit|xtest|fit|specify|bench)(?:\.\w+){0,3}\(\s*(?:\"([^\"]*)\"|'([^']*)'|`([^`]*)`)"),
        assertion=_C(r"\bexpect\(|\bassert(?:\.\w+)?\(|\.should\b|\bt\.(?:is|deepEqual|true|throws|equal)\("),
        off=_C(
            r"\b(?:xit|xtest|xdescribe|xcontext)\(|\b(?:it|test|describe|context"
            r"|suite)\.(?:skip|todo|failing|fails|skipIf)\b|\bskip: *true|\bthis\.skip\("
            r"|\bt\.skip\("),
        only=_C(r"\b(?:it|test|describe|context|suite)\.only\b|\b(?:fit|fdescribe)\(|\bonly: *true"),
        patch=_C(r"\b(?:jest|vi|sinon|mock)\.(?:mock|spyOn|fn|stub|replace|method|doMock)\(|\.mockReturnValue|\.mockImplementation|\bproxyquire\("),
    ),
    Language.GO: Grammar(
        test=_C(r"func ((?:Test|Fuzz|Benchmark|Example)\w*)\("),
        assertion=_C(r"\bt\.(?:Error|Errorf|Fatal|Fatalf|Fail|FailNow)\(|\b(?:assert|require|is|qt|cmp|g|Expect)\.?\w*\("),
        off=_C(r"\bt\.(?:Skip|Skipf|SkipNow)\(|^//go:build|^// \+build|testing\.Short\(\)"),
        patch=_C(r"gomonkey|monkey\.Patch"),
        runner="{name}",
    ),
    Language.RUST: Grammar(
        test=_C(r"\s*(?:pub )?(?:async )?fn (\w+)\s*\("),
        mark=_C(r"\s*#\[(?:\w+::)?(?:test|rstest|test_case|proptest|quickcheck)\b"),
        assertion=_C(r"\b(?:assert|assert_eq|assert_ne|debug_assert\w*|assert_matches|prop_assert\w*|panic|insta::\w+|assert_\w+)!|should_panic|\.unwrap_err\(\)"),
        off=_C(r"#\[ignore|#\[cfg\((?:not|any|all|feature)"),
    ),
    Language.JVM: Grammar(
        test=_C(r"\s*(?:(?:public|private|protected|internal|open|final|static|override|suspend|void|fun|def|[\w<>\[\].?]+)\s+){1,5}(?:`([^`]+)`|(\w+))\s*\((?:[^;]*$|[^;{]*\)[^;{]*\{)"),
        mark=_C(r"\s*@(?:\w+\.)*(?:Test|ParameterizedTest|RepeatedTest|TestFactory|Property|TestTemplate)\b"),
        assertion=_C(r"\b(?:assert\w*|verify\w*|fail|expect\w*|then|check|shouldThrow)\s*[({]|\bshould\w+\b|Assertions?\.\w+\("),
        off=_C(
            r"@(?:\w+\.)*(?:Ignore|Disabled\w*|EnabledIf\w*|DisabledIf\w*)\b|assumeTrue\("
            r"|assumeFalse\(|enabled *= *false|@Test\([^)]*enabled *= *false"),
        patch=_C(r"\b(?:mockStatic|doReturn|when|every|mockk|spyk?)\s*[({]"),
    ),
    Language.C: Grammar(
        test=_C(r"\s*(?:TEST(?:_F|_P|_CASE|_CASE_METHOD)?|SCENARIO|BOOST_AUTO_TEST_CASE|TYPED_TEST)\s*\(\s*(.{1,200}?)\)"),
        assertion=_C(r"\b(?:EXPECT|ASSERT|CHECK|REQUIRE|BOOST_CHECK|BOOST_REQUIRE|STATIC_REQUIRE|CK_ASSERT|cr_assert|TEST_ASSERT)\w*\s*\(|\bassert\s*\("),
        off=_C(r"\bDISABLED_\w+|GTEST_SKIP|\[!mayfail\]|\[\.\w*\]|\[!shouldfail\]|^\s*#\s*if\s+0\b"),
    ),
    Language.RUBY: Grammar(
        test=_C(
            r"\s*(?:x|f)?(?:it|specify|example|scenario|test)\s*\(?\s*(?:\"([^\"]*)\""
            r"|'([^']*)')|\s*def (test_\w+)"),
        assertion=_C(r"\bexpect\b|\bassert\w*\b|\brefute\w*\b|\.should\b|\bmust_\w+|\bwont_\w+|\bis_expected\b"),
        off=_C(r"\b(?:xit|xdescribe|xcontext|xspecify)\b|\bskip\b|\bpending\b|, *skip: *true|:skip\b"),
        only=_C(r"\b(?:fit|fdescribe|fcontext)\b|, *:focus\b|focus: *true"),
        comment="#",
        patch=_C(r"\ballow\(|\.stub\b|\.and_return\("),
    ),
    Language.PHP: Grammar(
        test=_C(
            r"\s*(?:(?:public|final|protected|static)\s+){0,3}function (test\w*)\s*\("
            r"|\s*(?:it|test)\(\s*(?:'([^']*)'|\"([^\"]*)\")"),
        assertion=_C(r"(?:->|::)(?:assert\w+|expect\w*|fail)\(|\bexpect\("),
        off=_C(r"markTest(?:Skipped|Incomplete)|#\[(?:Ignore|DoesNotPerformAssertions|Requires\w*)|@(?:group|requires|doesNotPerformAssertions)|->skip\(|->todo\("),
        only=_C(r"->only\("),
    ),
    Language.CSHARP: Grammar(
        test=_C(r"\s*(?:(?:public|private|internal|static|async|virtual|override)\s+){1,4}[\w<>\[\].?]+\s+(\w+)\s*\("),
        mark=_C(r"\s*\[(?:\w+\.)*(?:Test|Fact|Theory|TestMethod|TestCase|DataTestMethod|InlineData)\b"),
        assertion=_C(r"\b(?:Assert|StringAssert|CollectionAssert|Verify|Check)\.?\w*[.(<]|\.Should\w*\("),
        off=_C(r"\[(?:Ignore|Explicit)\b|Skip *= *\"|Assert\.(?:Ignore|Inconclusive)"),
    ),
    Language.SWIFT: Grammar(
        test=_C(r"\s*(?:(?:public|private|override|final|@MainActor)\s+){0,3}func (test\w*|\w+)\s*\("),
        mark=_C(r"\s*@Test\b"),
        assertion=_C(r"\bXCT(?:Assert|Fail|Unwrap)\w*\(|#expect\(|#require\("),
        off=_C(r"XCTSkip|\.disabled\b|\.enabled\(if"),
    ),
    Language.SHELL: Grammar(
        test=_C(r"\s*@test\s+[\"'](.{1,200}?)[\"']|\s*(test_\w+)\s*\(\)"),
        assertion=_C(r"^\s*(?:\[|\[\[|assert\w*|refute\w*|run|test )"),
        off=_C(r"^\s*skip\b"),
        comment="#",
    ),
}  # fmt: skip


def tests_of(language: Language, text: str) -> TestFile | None:
    """None: tests in this language are not read."""
    grammar = _GRAMMARS.get(language)
    if grammar is None:
        return None
    lines = [line[:MOST_CHARS].rstrip() for line in text.splitlines()]
    starts = list(_starts(grammar, lines))
    tests = tuple(
        _read(grammar, lines, at, name, end) for (at, name), end in zip(starts, _ends(starts, lines), strict=True)
    )
    outside = _outside(lines, starts, tests)
    off = tuple(grammar.off.findall(line)[0] or "off" for line in outside if grammar.off.search(line))
    only = sum(bool(grammar.only and grammar.only.search(line)) for line in lines)
    ends = tuple(found.group().strip() for line in lines if (found := _ENDS.search(line)) and _MAIN not in line)
    kept = tuple(line.strip() for line in outside if len(line.strip()) > 1 and not _APART.match(line))
    return TestFile(tests, off=tuple(str(one) for one in off), ends=ends, outside=kept, only=only)


def _outside(lines: list[str], starts: list[tuple[int, str]], tests: tuple[TestFunction, ...]) -> list[str]:
    inside = {at + n for (at, _), test in zip(starts, tests, strict=True) for n in range(-2, test.body.count("\n") + 1)}
    return [line for number, line in enumerate(lines) if number not in inside]


def _starts(grammar: Grammar, lines: list[str]) -> Iterator[tuple[int, str]]:
    marked = False
    for number, line in enumerate(lines):
        if grammar.mark is not None and grammar.mark.match(line):
            marked = True
            if not grammar.test.match(line):
                continue
        found = grammar.test.match(line)
        if found is None:
            continue
        name = next(one for one in found.groups() if one is not None)
        if (
            grammar.mark is None
            or marked
            or (grammar.runner == "" and name.startswith("test") and _named_alone(grammar))
        ):
            yield number, name
        marked = False


def _named_alone(grammar: Grammar) -> bool:
    """Swift's XCTest and JUnit 3 know tests by their names as well."""
    return grammar in (_GRAMMARS[Language.SWIFT], _GRAMMARS[Language.JVM])


def _ends(starts: list[tuple[int, str]], lines: list[str]) -> list[int]:
    following = [at for at, _ in starts[1:]] + [len(lines)] * bool(starts)
    return [_closed(lines, at, end) for (at, _), end in zip(starts, following, strict=True)]


def _closed(lines: list[str], at: int, end: int) -> int:
    """The line after the one that is indented no deeper than the test, and closes it."""
    depth = _indent(lines[at])
    for number in range(at + 1, end):
        line = lines[number]
        if line.strip() and _indent(line) <= depth and line.strip()[0] in "})e":
            return number + 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _read(grammar: Grammar, lines: list[str], at: int, name: str, end: int) -> TestFunction:
    marks = [line for line in lines[max(0, at - 2) : at] if line.strip()[:1] in ("#", "@", "[", "/")]
    own = [line for line in lines[at:end] if not line.strip().startswith(grammar.comment)]
    text = "\n".join(lines[at:end])
    off = [str(found.group()).strip() for line in [*marks, *own] if (found := grammar.off.search(line))]
    patches = sum(bool(grammar.patch and grammar.patch.search(line)) for line in own)
    return TestFunction(
        name=name,
        line=at + 1,
        body=text,
        assertions=tuple(_assertions(grammar, lines, at, end)),
        names=frozenset(_WORD.findall(_LITERAL.sub("", "\n".join(own[1:])))),
        off=tuple(sorted(off)),
        patches=patches,
        runner_name=grammar.runner.format(name=name) if grammar.runner else "",
    )


def _assertions(grammar: Grammar, lines: list[str], at: int, end: int) -> Iterator[Assertion]:
    for number in range(at, end):
        line = lines[number].strip()
        if line.startswith(grammar.comment) or not grammar.assertion.search(line):
            continue
        text = _joined(lines, number, end)
        if grammar.runner:
            text = f"{_condition(lines, number, at)} {text}"
        literals = tuple(_LITERAL.findall(text))
        strength = 0 if _TRIVIAL.search(text) else 1 if _WEAK.search(text) else 2
        yield Assertion(re.sub(r"[\"'`]", '"', text), _LITERAL.sub("_", text), literals, number + 1, strength)


def _condition(lines: list[str], number: int, at: int) -> str:
    """Go asserts by `if got != want { t.Error(...) }`: the condition is the line before."""
    before = lines[number - 1].strip() if number > at else ""
    return before if before.startswith(("if ", "} else if ", "case ")) else ""


def _joined(lines: list[str], number: int, end: int) -> str:
    """An assertion over several lines, up to where its brackets close."""
    text, depth = "", 0
    for line in lines[number : min(end, number + MOST_JOINED)]:
        text = f"{text} {line.strip()}".strip()
        depth += line.count("(") - line.count(")")
        if depth <= 0:
            break
    return re.sub(r"\s+", " ", text)[:MOST_CHARS]


def reads(language: Language) -> bool:
    return language in _GRAMMARS
