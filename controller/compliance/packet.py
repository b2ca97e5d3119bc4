"""The packet of one change: everything a reviewer who drew it from the population asks for, as one folder.

Entries with receipts, the diff, what CI said, the windows of counts that a canary was judged on with the judge's
parameters, plots of them, the attestation, and one page that tells it in words. Text that was sealed stays sealed
unless somebody entitled had it opened, which is then an entry itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from controller.compliance.bundle import Bundle, Standing, bundle
from controller.compliance.export import About, Exported, write_chosen
from controller.compliance.judged import Judged
from controller.compliance.packet_judging import EVIDENCE
from controller.compliance.packet_page import Page, render
from controller.domain.ids import NO_DIGEST, Digest
from controller.ledger.tiles import TreeReader

MAX_BLOBS = 1000
MAX_BLOB_BYTES = 5_000_000  # of one; a window's counts have a few hundred
_BLOB = re.compile(r"blob (sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Beside:
    """What a packet holds besides entries."""

    words: Mapping[int, str] = field(default_factory=dict)  # an entry as a sentence, by its index
    diff: str | None = None  # None: the repository no longer has the commits
    attestation: bytes | None = None  # a DSSE envelope. None: there is none
    blobs: Mapping[Digest, bytes] = field(default_factory=dict)
    opened: Mapping[Digest, str] = field(default_factory=dict)  # sealed text that was opened for this packet
    judged: tuple[Judged, ...] = ()  # releases, over entries that the packet holds


def write_packet(
    log: TreeReader, standing: Standing, about: About, beside: Beside, *, folder: Path, made_at: datetime
) -> Exported:
    """Raises ConfigError when nothing about the change is signed yet, Permanent when the folder exists."""
    with bundle(folder, standing) as made:
        written = write_chosen(made, log, about)
        _write_beside(made, beside)
        entries = tuple(json.loads(leaf) for leaf in written.leaves)
        page = Page(about.title, made_at, standing.words, standing.checkpoint, entries, beside.words, beside.diff)
        page = page.with_more(
            attestation=_statement(beside.attestation),
            counts=_counts(beside),
            opened=beside.opened,
            judged=beside.judged,
        )
        made.text("index.html", render(page))
        made.finish(f"{about.title}, of {standing.checkpoint.origin}.", made_at)
    return Exported(folder, len(written.leaves), written.changes, standing)


def blobs_named(entries: Iterable[Mapping[str, Any]]) -> list[Digest]:
    """Blobs in clear that the entries rest on: windows of counts, the judge's parameters, what their claims cite.

    Sealed ones are not.
    """
    found: dict[Digest, None] = {}
    for entry in entries:
        sealed = set(_sealed(entry["body"]))
        cited = [Digest(one) for one in _BLOB.findall(json.dumps(entry["body"]))]
        counts = [Digest(entry["body"]["counts"])] if isinstance(entry["body"].get("counts"), str) else []
        found |= dict.fromkeys(one for one in (*counts, *_parameters(entry), *cited) if one not in sealed)
    return [*found][:MAX_BLOBS]


def sealed_digests(entries: Iterable[Mapping[str, Any]]) -> set[Digest]:
    return {digest for entry in entries for digest in _sealed(entry["body"])}


def _parameters(entry: Mapping[str, Any]) -> list[Digest]:
    """Of the judge, as an entry of a rollout names them. Empty: it does not."""
    if not entry["stream"].startswith("rollout/"):
        return []
    said = (entry["body"].get("policy"), (entry["body"].get("decision") or {}).get("policy"))
    return [Digest(one) for one in said if isinstance(one, str) and one != NO_DIGEST]


def _write_beside(made: Bundle, beside: Beside) -> None:
    if beside.diff is not None:
        made.text("change.diff", beside.diff)
    if beside.attestation is not None:
        made.text("attestation.dsse.json", beside.attestation.decode())
    for digest, content in beside.blobs.items():
        with made.file(f"blobs/{digest.removeprefix('sha256:')}") as writing:
            writing.write(content)
    for digest, text in beside.opened.items():
        made.text(f"opened/{digest.removeprefix('sha256:')}.txt", text)
    for name, drawn in (file for one in beside.judged for file in one.files.items()):
        made.text(f"{EVIDENCE}/{name}", drawn)


def _sealed(value: Any) -> Iterable[Digest]:
    if isinstance(value, dict):
        if value.keys() >= {"key_id", "digest", "size"}:
            yield Digest(value["digest"])
        for one in value.values():
            yield from _sealed(one)
    elif isinstance(value, list):
        for one in value:
            yield from _sealed(one)


def _statement(envelope: bytes | None) -> Mapping[str, Any] | None:
    """What the envelope holds, verified by nobody: `verify.py` does that."""
    if envelope is None:
        return None
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return found


def _counts(beside: Beside) -> dict[str, list[Mapping[str, Any]]]:
    """Blobs that are windows of counts, read."""
    found = {}
    for digest, content in beside.blobs.items():
        if content.startswith(b'{"windows":'):
            found[str(digest)] = json.loads(content)["windows"]
    return found
