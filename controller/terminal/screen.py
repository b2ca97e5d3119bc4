"""Watching the log as it grows: a line an entry, in colour or not, or one JSON object an entry, terminal or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, Literal

from rich.console import Console
from rich.live import Live

from controller.domain.entry import Entry
from controller.ports import Log, Seals
from controller.terminal.footer import Footer
from controller.terminal.words import Line, line_of, shown

STYLE = {"plain": "default", "good": "green", "bad": "bold red", "care": "yellow", "quiet": "bright_black"}
MARK = {"plain": "•", "good": "✓", "bad": "✗", "care": "!", "quiet": "·"}
ABOUT_WIDTH = 20
WIDTH = 160  # of a file or a pipe


class Screen:
    """Prints what happened. `json_lines` for scripts: stable keys, one object a line, nothing else on stdout."""

    def __init__(
        self,
        *,
        json_lines: bool = False,
        color: bool | None = None,  # None: colour on a terminal, none elsewhere
        verbose: bool = False,
        file: IO[str] | None = None,  # None: standard output
    ) -> None:
        self.json_lines = json_lines
        self.verbose = verbose
        self._file = file or sys.stdout
        width = None if self._file.isatty() else WIDTH
        system: Literal["auto", "truecolor"] | None = {None: "auto", True: "truecolor", False: None}[color]
        self.console = Console(file=self._file, color_system=system, highlight=False, soft_wrap=True, width=width)
        self._began: datetime | None = None  # None: nothing has been shown
        self._footer = Footer()
        self._live: Live | None = None  # None: no terminal, or nothing is being watched

    def say(self, text: str = "", style: str = "default") -> None:
        """A sentence of our own. Silent with --json."""
        if not self.json_lines:
            self.console.print(shown(text), style=style)

    def heading(self, text: str) -> None:
        if not self.json_lines:
            self.console.print()
            self.console.rule(f"[bold]{shown(text)}[/bold]", align="left", style="bright_black")

    def value(self, what: str, found: dict[str, Any]) -> None:
        """One JSON object. Silent without --json."""
        if self.json_lines:
            self._file.write(json.dumps({"what": what, **found}, default=str) + "\n")
            self._file.flush()

    @contextmanager
    def live(self) -> Iterator[None]:
        """On a terminal, what is under way stands below the lines for as long as the block lasts."""
        if self.json_lines or not self.console.is_terminal:
            yield
            return
        with Live(self._footer.render(), console=self.console, transient=True, auto_refresh=False) as shown:
            self._live = shown
            try:
                yield
            finally:
                self._live = None

    async def recall(self, log: Log) -> None:
        """What is under way already, for whoever begins to watch in the middle."""
        for row in await log.live():
            for entry in await log.read(row.stream):
                self._footer.take(entry)

    def refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._footer.render(), refresh=True)

    async def show(self, entry: Entry, seals: Seals) -> None:
        self._footer.take(entry)
        line = await line_of(entry, seals)
        if self.json_lines:
            self.value("entry", as_json(entry, line))
        elif line is not None and (line.loud or self.verbose):
            self._print(entry.time, line)

    def _print(self, at: datetime, line: Line) -> None:
        self._began = self._began or at
        seconds = (at - self._began).total_seconds()
        style = STYLE[line.tone]
        about = line.about if len(line.about) <= ABOUT_WIDTH else line.about[: ABOUT_WIDTH - 1] + "…"
        head = f"[bright_black]{seconds:6.1f}s[/bright_black] [cyan]{shown(about):<{ABOUT_WIDTH}}[/cyan]"
        self.console.print(f"{head} [{style}]{MARK[line.tone]} {shown(line.text)}[/{style}]")
        if line.detail and (line.loud or self.verbose):
            self.console.print(f"{'':>{ABOUT_WIDTH + 11}}[bright_black]{shown(line.detail)}[/bright_black]")


def as_json(entry: Entry, line: Line | None) -> dict[str, Any]:
    body = json.loads(entry.leaf)
    kept = {
        key: body[key]
        for key in ("index", "stream", "version", "time", "principal", "on_behalf_of", "policy", "kind", "v", "body")
    }
    return kept | {"line": line.text if line else None}


async def follow(log: Log, seals: Seals, screen: Screen, position: int) -> int:
    """Show what has been appended since `position`; returns the new one."""
    async for entry in log.scan(position):
        await screen.show(entry, seals)
        position = entry.index + 1
    screen.refresh()
    return position
