"""Tests are known by each language's own conventions, and so is what switches them off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found, touched, weakened

from controller.domain.change import Role
from controller.facts.languages import is_test
from controller.facts.roles import roles_of

TESTS = [
    "tests/test_app.py",
    "app_test.py",
    "pkg/tests.py",
    "src/cart.test.js",
    "src/cart.spec.ts",
    "src/__tests__/cart.js",
    "test/cart.js",
    "cmd/cart_test.go",
    "tests/cart.rs",
    "src/test/java/shop/CartTest.java",
    "src/main/CartIT.java",
    "CartSpec.kt",
    "tests/cart_test.cc",
    "spec/cart_spec.rb",
    "test/test_cart.rb",
    "tests/CartTest.php",
    "Shop.Tests/CartTests.cs",
    "Tests/ShopTests/CartTests.swift",
    "t.bats",
]
NO_TESTS = [
    "app.py",
    "contest.py",
    "latest.js",
    "src/testing/mod.rs",
    "attest.go",
    "src/main/java/Audit.java",
    "Contest.java",
    "protest.rb",
    "src/unit.py",
    "manifest.json",
    "specification.md",
    "inspector.ts",
]


@pytest.mark.parametrize("path", TESTS)
def test_a_test_is_known_by_its_languages_convention(path: str) -> None:
    assert is_test(path)
    assert Role.TEST in roles_of(path)


@pytest.mark.parametrize("path", NO_TESTS)
def test_what_only_sounds_like_a_test_is_none(path: str) -> None:
    assert not is_test(path)


# (path, a test, the same weakened, rule)
EACH = {
    "javascript": (
        "a.test.ts",
        "test('adds', () => {{\n  expect(add(1, 2)).toBe({0})\n}})\n",
        "test.skip('adds', () => {{",
    ),
    "go": (
        "a_test.go",
        "func TestAdd(t *testing.T) {{\n\tif got := Add(1, 2); got != {0} {{\n\t\tt.Error(got)\n\t}}\n}}\n",
        "t.Skip()",
    ),
    "rust": (
        "src/a.rs",
        "#[cfg(test)]\nmod tests {{\n    #[test]\n    fn adds() {{\n        assert_eq!(add(1, 2), {0});\n    }}\n}}\n",
        "#[ignore]",
    ),
    "java": (
        "src/test/java/ATest.java",
        "class ATest {{\n    @Test\n    void adds() {{\n        assertEquals({0}, add(1, 2));\n    }}\n}}\n",
        "@Disabled",
    ),
    "kotlin": (
        "src/test/kotlin/ATest.kt",
        "class ATest {{\n    @Test\n    fun `adds up`() {{\n        assertEquals({0}, add(1, 2))\n    }}\n}}\n",
        "@Ignore",
    ),
    "c++": ("tests/a_test.cc", "TEST(Add, Adds) {{\n  EXPECT_EQ(add(1, 2), {0});\n}}\n", "GTEST_SKIP();"),
    "ruby": ("spec/a_spec.rb", "it 'adds' do\n  expect(add(1, 2)).to eq({0})\nend\n", "skip 'later'"),
    "php": (
        "tests/ATest.php",
        "public function testAdds(): void {{\n    $this->assertSame({0}, add(1, 2));\n}}\n",
        "$this->markTestSkipped();",
    ),
    "c#": ("A.Tests/ATests.cs", "[Fact]\npublic void Adds() {{\n    Assert.Equal({0}, Add(1, 2));\n}}\n", "[Ignore]"),
    "swift": (
        "Tests/ATests.swift",
        "func testAdds() {{\n    XCTAssertEqual(add(1, 2), {0})\n}}\n",
        'throw XCTSkip("later")',
    ),
}


def text(language: str, value: int = 3) -> str:
    return EACH[language][1].format(value)


@pytest.mark.parametrize("language", EACH)
def test_a_new_test_counts_and_a_removed_one_is_named(language: str) -> None:
    path = EACH[language][0]
    assert touched(found(changed(path, None, text(language)))) == ["added"]
    gone = found(changed(path, text(language), "// nothing\n"))
    assert (touched(gone), weakened(gone)) == (["removed"], ["test-removed"])


@pytest.mark.parametrize("language", EACH)
def test_a_changed_expectation_is_named_unless_the_task_states_it(language: str) -> None:
    files = changed(EACH[language][0], text(language), text(language, 4))
    assert weakened(found(files)) == ["expectation-changed"]
    assert weakened(found(files, task="One and two equals 4")) == []


@pytest.mark.parametrize("language", EACH)
def test_a_test_that_is_switched_off_is_named(language: str) -> None:
    path, _, off = EACH[language]
    lines = text(language).splitlines()
    if language == "javascript":
        lines[0] = off.format()
    else:
        at = next(n for n, line in enumerate(lines) if any(w in line for w in ("3", "Add(1, 2)")))
        marks = off.startswith(("#[", "@", "["))
        first = (
            next(
                n
                for n, line in enumerate(lines)
                if any(w in line for w in ("fn adds", "void adds", "fun `", "void Adds"))
            )
            if marks
            else at
        )
        lines.insert(first, off)
    assert "switched-off" in weakened(found(changed(path, text(language), "\n".join(lines) + "\n")))


@pytest.mark.parametrize("language", EACH)
def test_a_file_of_tests_that_moves_weakens_nothing(language: str) -> None:
    path = EACH[language][0]
    folder, _, name = path.rpartition("/")
    analysis = found(changed(f"{folder or 'sub'}/{name}", text(language), text(language), was=path))
    assert weakened(analysis) == []


def test_a_test_that_alone_is_to_run_is_named() -> None:
    for path, old, new in (
        ("a.test.js", "it('adds'", "it.only('adds'"),
        ("a.test.js", "it('adds'", "fit('adds'"),
        ("spec/a_spec.rb", "it 'adds' do", "it 'adds', :focus do"),
    ):
        body = f"{old}, () => {{\n  expect(add(1, 2)).toBe(3)\n}})\n"
        assert "only" in weakened(found(changed(path, body, body.replace(old, new))))


def test_a_rust_source_with_tests_inside_is_source_and_its_tests_are_read() -> None:
    path = EACH["rust"][0]
    analysis = found(changed(path, "pub fn add() {}\n", "pub fn add() {}\n" + text("rust")))
    assert analysis.roles[path] == (Role.SOURCE,)
    assert touched(analysis) == ["added"]


def test_tests_in_a_language_that_is_not_read_count_by_their_name_and_ask_when_they_change() -> None:
    assert touched(found(changed("test/a_test.exs", None, "assert 1\n"))) == ["file-added"]
    assert weakened(found(changed("test/a_test.exs", "assert 1\n", "assert 2\n"))) == ["test-file-changed"]
