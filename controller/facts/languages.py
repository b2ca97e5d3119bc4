"""Which language a file is in, and whether it is a test, by the conventions of that language's own tools.

Sources: pytest and unittest discovery; Jest, Vitest, Mocha and node:test defaults; `go help test`; the Cargo book on
targets; Surefire's and Gradle's default includes; RSpec, Minitest, PHPUnit, NUnit/xUnit and SwiftPM layouts.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Language(StrEnum):
    PYTHON = "python"
    JAVASCRIPT = "javascript"  # and TypeScript
    GO = "go"
    RUST = "rust"
    JVM = "jvm"  # Java, Kotlin, Scala, Groovy
    C = "c"  # and C++
    RUBY = "ruby"
    PHP = "php"
    CSHARP = "csharp"
    SWIFT = "swift"
    SHELL = "shell"
    OTHER = "other"  # a programming language whose tests are not read


_SUFFIXES = {
    Language.PYTHON: "py pyi pyx",
    Language.JAVASCRIPT: "js jsx mjs cjs ts tsx mts cts vue svelte",
    Language.GO: "go",
    Language.RUST: "rs",
    Language.JVM: "java kt kts scala groovy",
    Language.C: "c h cc cpp cxx c++ hpp hh hxx",
    Language.RUBY: "rb",
    Language.PHP: "php",
    Language.CSHARP: "cs",
    Language.SWIFT: "swift",
    Language.SHELL: "sh bash zsh ksh bats",
    Language.OTHER: "m mm lua ex exs erl dart clj cljs hs ml fs vb pl pm r jl zig nim ps1 bat cmd sql",
}
_BY_SUFFIX = {suffix: language for language, words in _SUFFIXES.items() for suffix in words.split()}
_TEST_FOLDERS = frozenset(
    ["test", "tests", "__tests__", "spec", "specs", "testing", "testdata", "__mocks__", "androidtest", "e2e"]
)
_TEST_NAMES = {
    Language.PYTHON: re.compile(r"test_.*\.py|.*_test\.py|tests?\.py"),
    Language.JAVASCRIPT: re.compile(r".*[._-](?:test|spec|cy|e2e)\.[a-z]{2,6}|test\.[a-z]{2,3}"),
    Language.GO: re.compile(r".*_test\.go"),
    Language.RUST: re.compile(r"tests?\.rs|.*_tests?\.rs"),
    Language.JVM: re.compile(r"test.*\.\w{2,6}|.*(?:tests?|testcase|it|spec)\.\w{2,6}"),
    Language.C: re.compile(
        r"(?:test[_-]?|.*[_-]?(?:unit)?tests?[_-]).*\.\w{1,3}|.*(?:_test|_unittest|tests?)\.\w{1,3}"
    ),
    Language.RUBY: re.compile(r".*_(?:spec|test)\.rb|test_.*\.rb"),
    Language.PHP: re.compile(r".*test\.php"),
    Language.CSHARP: re.compile(r".*tests?\.cs"),
    Language.SWIFT: re.compile(r".*tests?\.swift"),
    Language.SHELL: re.compile(r".*\.bats|.*_test\.sh|test_.*\.sh"),
}
_JVM_CASED = re.compile(r"(?:Test.*|.*(?:Tests?|TestCase|IT|Spec))\.\w{2,6}")
_SNAPSHOT = re.compile(
    r"(?:^|/)(?:__snapshots__|__image_snapshots__|snapshots|golden|goldens)/|\.(?:snap|ambr|golden|storyshot)$"
    r"|\.(?:approved|verified|expected)\.\w{1,10}$"
)
_DOC_SUFFIXES = frozenset(["md", "mdx", "rst", "adoc", "png", "jpg", "jpeg", "gif", "webp"])
_DOC_SUFFIXES_IN_DOCS = frozenset(["txt", "svg", "pdf", "drawio"])  # elsewhere they are what the program works on
_DOC_FOLDERS = frozenset(["docs", "doc", "documentation"])
_DOC_NAMES = re.compile(
    r"(?:licen[cs]e|copying|notice|authors|contributors|changelog|readme|security|\.gitignore)(?:\.\w{1,8}|-[\w-]{1,20})?"
)
_NO_DOCS = re.compile(r"(?:requirements|constraints).*\.txt|cmakelists\.txt|robots\.txt")


def language_of(path: str) -> Language | None:
    """None: no programming language that is known here."""
    name = path.rpartition("/")[2]
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower()) if "." in name else None


def is_test(path: str) -> bool:
    """A file of tests, or one that only tests use: by its name, or because it lies in a folder of tests."""
    *folders, name = path.split("/")
    if name.lower().startswith("readme"):
        return False
    language = language_of(path)
    if any(folder.lower() in _TEST_FOLDERS or _is_test_project(folder) for folder in folders):
        return not (language is Language.RUST and _in_rust_sources(folders))
    if language is Language.JVM:
        return _JVM_CASED.fullmatch(name) is not None
    pattern = _TEST_NAMES.get(language) if language else None
    return pattern is not None and pattern.fullmatch(name.lower()) is not None


def _is_test_project(folder: str) -> bool:
    """Of .NET and Swift: `Shop.Tests/`, `ShopTests/`."""
    return folder.endswith((".Tests", ".Test", ".UnitTests", ".IntegrationTests", "Tests"))


def _in_rust_sources(folders: list[str]) -> bool:
    """`src/testing/` is a module like any other; `tests/` beside it is Cargo's."""
    return "src" in folders and not any(folder in ("tests", "test") for folder in folders)


def is_snapshot(path: str) -> bool:
    return _SNAPSHOT.search(path.lower()) is not None and language_of(path) is None


def is_docs(path: str) -> bool:
    """Read by people and run by nothing."""
    *folders, name = path.lower().split("/")
    if _NO_DOCS.fullmatch(name):
        return False
    suffix = name.rpartition(".")[2]
    in_docs = suffix in _DOC_SUFFIXES_IN_DOCS and not _DOC_FOLDERS.isdisjoint(folders)
    return suffix in _DOC_SUFFIXES or in_docs or _DOC_NAMES.fullmatch(name) is not None
