"""Which source files stand on a failing stack, read off the text that an exception event carries.

Every language prints its frames its own way and in its own order. Read here: Python, Java, JavaScript and Go. What
comes out is one list, innermost frame first and the root cause before what wrapped it, each file once, without the
language's own library and without what a package manager installed: a change of this repository is in none of those.

Paths are as the process knew them. The working directory is cut off where the resource names it; else the last parts
are kept, since a repository's path is compared by its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MOST_FILES = 32  # of one stack
MOST_TEXT = 16_384  # characters of a stack trace that are read: its end, where Python puts the innermost frame
MOST_PARTS = 8  # of a path
LONGEST_PATH = 200

PYTHON = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line \d+', re.MULTILINE)
PYTHON_NEXT = re.compile(r"^(?:The above exception was the direct cause|During handling of the above)", re.MULTILINE)
JAVA = re.compile(r"^\s*at (?:[\w.$-]+/)*(?P<owner>[\w.$<>]+)\([\w$-]+\.(?:java|kt|scala):\d+\)", re.MULTILINE)
JAVA_FILE = re.compile(r"\((?P<name>[\w$-]+\.(?:java|kt|scala)):\d+\)")
JAVA_NEXT = re.compile(r"^\s*Caused by: ", re.MULTILINE)
SCRIPT = re.compile(r"^\s*at (?:[^(\n]*\()?(?:file://)?(?P<file>[^()\s:]+\.[cm]?[jt]sx?):\d+:\d+\)?\s*$", re.MULTILINE)
GO = re.compile(r"^\t(?P<file>\S+\.go):\d+", re.MULTILINE)
NOT_OURS = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|node_modules|lib/python\d[.\d]*|pkg/mod|go/src/runtime|vendor)(?:/|$)"
    r"|^<|^node:|^(?:java|javax|jdk|sun|kotlin|scala)/"
)


def files_on(stack: str, root: str = "") -> tuple[str, ...]:
    """Own source files of a stack trace, innermost first. Empty: none, or a style that is not read here.

    `root`: the directory that paths are cut by. Empty: not known.
    """
    return kept(_frames(stack[-MOST_TEXT:]), root)


def kept(paths: Iterable[str], root: str = "") -> tuple[str, ...]:
    """Own files, each once, at most `MOST_FILES`, in the order given."""
    own = (relative(path, root) for path in paths if not NOT_OURS.search(path))
    return tuple(dict.fromkeys(path for path in own if path))[:MOST_FILES]


def relative(path: str, root: str = "") -> str:
    """From the repository's root where `root` is one; else the last parts of it."""
    path = path.replace("\\", "/")
    root = root.rstrip("/")
    if root and path.startswith(f"{root}/"):
        path = path[len(root) + 1 :]
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(parts[-MOST_PARTS:])[-LONGEST_PATH:]


def _frames(stack: str) -> Iterator[str]:
    if PYTHON.search(stack):
        for block in PYTHON_NEXT.split(stack):  # the cause is printed first
            yield from reversed(PYTHON.findall(block))
        return
    if JAVA.search(stack):
        for block in reversed(JAVA_NEXT.split(stack)):  # the cause is printed last
            yield from map(_java_file, JAVA.finditer(block))
        return
    yield from SCRIPT.findall(stack) or GO.findall(stack)


def _java_file(frame: re.Match[str]) -> str:
    """`com.acme.Cart.total(Cart.java:42)` is in com/acme/Cart.java: packages are folders."""
    package = [part for part in frame["owner"].split(".")[:-2] if part]
    name = JAVA_FILE.search(frame[0])
    return "/".join((*package, name["name"])) if name else ""
