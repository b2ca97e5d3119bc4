"""PromQL selectors of a service's counters. Whatever a name holds, it stands in them as text and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.domain.ids import Commit, Service
from controller.errors import Permanent
from controller.settings import PrometheusSection

ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\0": r"\x00", "\ufffd": r"\ufffd"})
WRITTEN = re.compile(r"(\w+)(=~|!~|!=|=)(.*)", re.ASCII)  # a matcher as the settings have it


@dataclass(frozen=True)
class Selectors:
    """`health_route`: what machines ask for and no user; empty: there is none."""

    section: PrometheusSection
    health_route: str = ""

    def counters(self, service: Service, versions: tuple[Commit, ...]) -> str:
        """Requests and latency together, so that one answer has both as they were scraped."""
        names = (name for name in (self.section.requests, self.section.latency) if name)
        return f"{{{','.join([one_of('__name__', names), *self._matchers(service, versions)])}}}"

    def failures(self, service: Service, versions: tuple[Commit, ...]) -> list[str]:
        """One selector for each way to fail; a series may match several, and counts once."""
        matchers = list(self._matchers(service, versions))
        return [f"{self.section.requests}{{{','.join([*matchers, matcher(one)])}}}" for one in self.section.errors]

    def up(self, instances: Iterable[str]) -> str:
        """Whether their scrapes were answered, which Prometheus itself writes down."""
        return f"up{{{one_of(self.section.instance_label, instances)}}}"

    def _matchers(self, service: Service, versions: tuple[Commit, ...]) -> Iterator[str]:
        section = self.section
        yield f"{section.service_label}={quoted(service)}"
        yield one_of(section.version_label, set(versions))
        if self.health_route and section.route_label:
            yield f"{section.route_label}!={quoted(self.health_route)}"
        yield from (matcher(one) for one in section.only)


def matcher(written: str) -> str:
    """`label=~value` of the settings, as PromQL quotes it."""
    parts = WRITTEN.fullmatch(written)
    if parts is None:
        raise Permanent(f"{written!r} is no matcher", "Write a label, one of =, !=, =~, !~, and a value without quotes")
    label, operator, value = parts.groups()
    return f"{label}{operator}{quoted(value)}"


def quoted(text: str) -> str:
    """A PromQL string that means exactly this text."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Permanent(f"{text!r} is no text that a label can have", "Use a name of Unicode characters")
    return f'"{text.translate(ESCAPES)}"'


def one_of(label: str, texts: Iterable[str]) -> str:
    """A matcher of series whose label is one of these texts, whatever they mean as regular expressions."""
    return f"{label}=~{quoted('|'.join(_literal(text) for text in sorted(texts)))}"


def _literal(text: str) -> str:
    """As RE2 reads it: any ASCII character that is no word character may stand behind a backslash."""
    return "".join(f"\\{c}" if c.isascii() and c.isprintable() and not c.isalnum() and c != "_" else c for c in text)
