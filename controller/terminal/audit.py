"""One entry for a reviewer, in full: envelope, decision, the fact itself, sealed text if it was opened, links."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from controller.domain.entry import Entry
from controller.domain.ids import Digest
from controller.domain.sealed import Sealed
from controller.ports import Seals
from controller.terminal.words import opened, plain


class Link(Protocol):
    @property
    def what(self) -> str: ...

    @property
    def where(self) -> str: ...


def entry_lines(
    entry: Entry, words: str, leaf_hash: str, links: Sequence[Link], texts: Mapping[Digest, str]
) -> list[str]:
    """Without control characters, whatever the entry says."""
    return [plain(line) for line in _lines(entry, words, leaf_hash, links, texts)]


async def sealed_lines(entry: Entry, seals: Seals) -> dict[Digest, str]:
    """Every sealed text of an entry, opened by `seals`; one whose key is gone says so."""
    found = _sealed(json.loads(entry.leaf)["body"])
    return {sealed.digest: await opened(sealed, seals) for sealed in found}


def _lines(
    entry: Entry, words: str, leaf_hash: str, links: Sequence[Link], texts: Mapping[Digest, str]
) -> Iterator[str]:
    yield f"#{entry.index}  {entry.kind}" + (f": {words}" if words else "")
    behalf = f", on behalf of {entry.on_behalf_of}" if entry.on_behalf_of else ""
    yield f"  stream     {entry.stream}, entry {entry.version} of it"
    yield f"  time       {entry.time.isoformat()}"
    yield f"  by         {entry.principal}{behalf}"
    yield f"  policy     {entry.policy}"
    yield f"  leaf hash  {leaf_hash}"
    body: dict[str, Any] = json.loads(entry.leaf)["body"]
    if isinstance(body.get("decision"), dict):
        yield from _decision(body["decision"])
    yield "the fact"
    for name, value in body.items():
        if name != "decision":
            yield f"  {name}: {_value(value)}"
    for digest, text in texts.items():
        yield f"opened: {digest}"
        yield from (f"  | {line}" for line in text.splitlines())
    if links:
        yield "read on"
        yield from (f"  {link.what}: {link.where}" for link in links)


def _decision(decision: Mapping[str, Any]) -> Iterator[str]:
    yield f"decision: {decision['question']} {decision['choice']}"
    for claim in decision["claims"]:
        yield f"  because {claim['text']}  [{claim['evidence']}]"
    for option in decision["options"]:
        if option["why_not"] is not None:
            yield f"  not {option['name']}: {option['why_not']}"
    yield f"  rules {', '.join(decision['rules'])}; confidence {decision['confidence_percent']} %"
    yield f"  would change it: {decision['would_change']}"
    yield f"  otherwise: {decision['fallback']}"


def _value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() >= {"key_id", "digest", "size"}:
        return f"sealed, {value['size']} bytes, {value['digest']} (open it with --open)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sealed(value: Any) -> Iterator[Sealed]:
    if isinstance(value, dict):
        if value.keys() >= {"key_id", "digest", "size"}:
            yield Sealed.model_validate({name: value[name] for name in ("key_id", "digest", "size")})
        else:
            for one in value.values():
                yield from _sealed(one)
    elif isinstance(value, list):
        for one in value:
            yield from _sealed(one)
