"""Which lines of which Python files a change has touched, from the two trees as files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

MOST_FILE_BYTES = 1_000_000
MOST_FILES = 50_000  # looked at in one tree
MOST_LINES = 20_000  # of a file that is compared line by line; all lines of a longer one count as changed
HIDDEN = {"__pycache__", "node_modules", "site-packages"}
# As `controller.facts.languages` tells tests; it is not there where this runs.
TEST_FOLDERS = {"test", "tests", "__tests__", "spec", "specs", "testing", "testdata", "__mocks__", "androidtest", "e2e"}
TEST_FILES = {"test.py", "tests.py"}


def is_source(path: str) -> bool:
    """Python that is neither a test nor part of what makes tests run."""
    *folders, name = path.split("/")
    if not name.endswith(".py") or name == "conftest.py" or TEST_FOLDERS & {one.lower() for one in folders}:
        return False
    return not (
        name.lower() in TEST_FILES
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name in {"setup.py", "noxfile.py"}
    )


def python_files(root: str) -> Iterator[str]:
    """Relative paths, links not followed."""
    looked = 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if name not in HIDDEN and not name.startswith("."))
        for name in sorted(names):
            looked += 1
            path = os.path.join(folder, name)
            if looked <= MOST_FILES and name.endswith(".py") and not os.path.islink(path):
                yield os.path.relpath(path, root).replace(os.sep, "/")


def read(root: str, path: str) -> bytes:
    """Empty: it is not there, is a link, or is larger than anybody writes by hand."""
    full = os.path.join(root, path)
    if os.path.islink(full) or not os.path.isfile(full) or os.path.getsize(full) > MOST_FILE_BYTES:
        return b""
    with open(full, "rb") as file:
        return file.read()


def changed_files(head: str, base: str) -> dict[str, set[int]]:
    """Path to the lines that differ from the base, tests included. A file whose bytes are the same is not in it."""
    found = {}
    for path in python_files(head):
        after, before = read(head, path), read(base, path)
        if after != before:
            found[path] = changed_lines(before, after)
    return found


def changed_lines(before: bytes, after: bytes) -> set[int]:
    old, new = before.splitlines(), after.splitlines()
    if len(old) > MOST_LINES or len(new) > MOST_LINES:
        return set(range(1, len(new) + 1))
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return {line + 1 for tag, _, _, start, end in blocks if tag != "equal" for line in range(start, end)}
