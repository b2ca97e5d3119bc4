"""A process that has imported what never changes, and forks a run of pytest for each mutant.

Most of a short run's time goes into importing other people's libraries; a fork has them for nothing. No line of the
project is imported here: each child reads it anew, as it then stands. One request a line on standard input, JSON:
`args` for pytest, `output` (a file) and `environment`; the answers are the child's process id at once, and its exit
status when it has ended. A plugin of pytest is not imported here either: pytest rewrites what it imports itself.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import pytest

LIBRARIES = (
    "asyncio",
    "cedarpy",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "httpx2",
    "jsonschema",
    "langgraph.checkpoint.memory",
    "langgraph.graph",
    "mcp",
    "pydantic",
    "pygit2",
    "sqlite3",
    "starlette.applications",
    "yaml",
)
NO_STATUS = 70  # the run ended without one: an internal error


def child(request: dict[str, object]) -> None:
    """Never returns."""
    status = NO_STATUS
    try:
        os.setsid()
        output = os.open(str(request["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        silent = os.open(os.devnull, os.O_RDONLY)
        for number, onto in ((silent, 0), (output, 1), (output, 2)):
            os.dup2(number, onto)
        more = request["environment"]
        assert isinstance(more, dict)
        os.environ.update(more)
        arguments = request["args"]
        assert isinstance(arguments, list)
        status = int(pytest.main(arguments))
    except BaseException:  # noqa: BLE001 - whatever it was, the one who asked reads it in the output
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # no exit handler of the parent runs twice


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.path.insert(0, str(Path.cwd()))
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(request)
        print(pid, flush=True)
        _, waited = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(waited), flush=True)


if __name__ == "__main__":
    main()
