"""Which model answers: the live one with a key, or a scripted server on loopback that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.adapters.scripted_book import ScriptBook, load_book, task_script
from controller.adapters.scripted_messages import ScriptedServer
from controller.domain.events import Label
from controller.settings import Settings
from controller.wiring import ModelChoice, model_from_environment

SCRIPTED_KEY = "scripted"  # the scripted server takes any key; no real one is ever sent to it


@contextmanager
def live_model(settings: Settings) -> Iterator[ModelChoice]:
    yield model_from_environment(settings)


@contextmanager
def scripted_model(source: Path | ScriptBook) -> Iterator[ModelChoice]:
    """A scripted agent, from a book or from a file: a list of scripts, or one task (`task`, `edits`, `summary`)."""
    server = ScriptedServer(source if isinstance(source, ScriptBook) else _book(source))
    base_url = server.start()
    try:
        yield ModelChoice(SCRIPTED_KEY, base_url, Label.SCRIPTED)
    finally:
        server.stop()


def _book(path: Path) -> ScriptBook:
    """A single task speaks whatever it was asked: there is nobody else."""
    if path.read_text().lstrip().startswith("-"):
        return load_book(path)
    return ScriptBook(scripts=(task_script(path, match="."),))
