"""A service's secrets: read by name when an instance starts, told to it alone, and taken out of its last words.

A configuration says where a value lies (a file, or a command of a secret store that prints it), never the value. The
builder, agents, the log and the edge's own files do not get it.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import re
import stat
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import Field, StringConstraints, model_validator

from controller.adapters.edge_environment import plain_environment
from controller.domain.base import Fact
from controller.errors import Permanent

LARGEST_SECRET_BYTES = 32 << 10
STORE_WITHIN_S = 10.0
SHORTEST_FOUND = 4  # characters: what is shorter stands in texts by chance
SHORTEST_INSIDE = 12  # likewise, of a text in a JSON document
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class SecretSource(Fact):
    """Where one secret lies: exactly one of the two."""

    file: Path | None = None  # None: a command prints it
    command: Annotated[tuple[str, ...], Field(max_length=64)] = ()  # arguments, no shell. Empty: it lies in a file

    @model_validator(mode="after")
    def _one_source(self) -> SecretSource:
        if (self.file is None) == (not self.command):
            raise ValueError("names neither one file nor one command: set `file` or `command`")
        return self


async def read_secrets(sources: Mapping[str, SecretSource]) -> dict[str, str]:
    """Raises `Permanent` that names the setting and where it was looked for, and never what was found there."""
    found = {}
    for name, source in sources.items():
        where = f"service.secrets.{name}"
        content = (
            await asyncio.to_thread(_in_file, where, source.file) if source.file else await _printed(where, source)
        )
        found[name] = _value(where, content)
    return found


def _in_file(where: str, path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Permanent(f"{where}: {path} is not a file", "Name a file that holds the value and nothing else")
        with path.open("rb") as file:
            return file.read(LARGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise Permanent(
            f"{where}: {path} cannot be read ({error.strerror})", "Write the value into it, readable by Flyball's user"
        ) from error


async def _printed(where: str, source: SecretSource) -> bytes:
    """The store's command runs as Flyball's user: it is the operator's. What it says on stderr is not told."""
    program = source.command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *source.command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=plain_environment(), cwd="/"
        )
    except OSError as error:
        raise Permanent(f"{where}: {program} cannot be started ({error.strerror})", "Correct the command") from error
    try:
        async with asyncio.timeout(STORE_WITHIN_S):
            content = await _up_to_the_bound(process)
    except TimeoutError as error:
        raise Permanent(f"{where}: {program} did not answer within {STORE_WITHIN_S:g} s", "Run it by hand") from error
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0 and len(content) <= LARGEST_SECRET_BYTES:
        raise Permanent(f"{where}: {program} ended with exit code {process.returncode}", "Run it by hand")
    return content


async def _up_to_the_bound(process: Process) -> bytes:
    """And one byte more, for whoever looks at the length; the process is over then."""
    content = b""
    while process.stdout and (piece := await process.stdout.read(LARGEST_SECRET_BYTES + 1 - len(content))):
        content += piece
    if len(content) > LARGEST_SECRET_BYTES and process.returncode is None:
        process.kill()
    await process.wait()
    return content


def _value(where: str, content: bytes) -> str:
    """Without the line's end that editors and stores put after it."""
    if len(content) > LARGEST_SECRET_BYTES:
        raise Permanent(f"{where}: the value is longer than {LARGEST_SECRET_BYTES} bytes", "Name what holds only it")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Permanent(f"{where}: the value is not UTF-8", "Encode it, for example with base64") from error
    value = text.removesuffix("\n").removesuffix("\r")
    if not value or "\0" in value:
        raise Permanent(f"{where}: the value is empty or holds a NUL character", "Write the value itself")
    return value


def without_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """The text with the secret's name for every secret, its lines, a URL's password, and their usual spellings."""
    if any(len(value) < SHORTEST_FOUND for value in secrets.values()):
        return f"[withheld: a secret shorter than {SHORTEST_FOUND} characters could not be found in it]" if text else ""
    pieces = {piece: name for name, value in secrets.items() for piece in _pieces(value)}
    for piece in sorted(pieces, key=len, reverse=True):
        text = text.replace(piece, f"[secret {pieces[piece]}]")
    return text


def longest_piece(secrets: Mapping[str, str]) -> int:
    """Characters. A text that was cut may begin with what is left of a piece this long."""
    return max((len(piece) for value in secrets.values() for piece in _pieces(value)), default=0)


def _pieces(value: str) -> set[str]:
    spelled = {way for part in _parts(value) for way in _spellings(part)}
    return {piece for piece in spelled if len(piece) >= SHORTEST_FOUND}


def _parts(value: str) -> set[str]:
    """What a program may say of it: the whole, its lines, a URL's password, and the texts of a key file in JSON."""
    texts = {value, *_texts_in(value)}
    return {part for text in texts for part in (text, *text.splitlines(), *_password(text))}


def _texts_in(value: str) -> Iterator[str]:
    """Such as the private key of a service account; short texts in there (`type`, a region) are no secrets."""
    try:
        left = [json.loads(value)]
    except (ValueError, RecursionError):
        return
    while left:
        match left.pop():
            case str(text) if len(text) >= SHORTEST_INSIDE:
                yield text
            case list(inner):
                left += inner
            case dict(inner):
                left += inner.values()


def _password(value: str) -> Iterable[str]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return ()
    return (password, unquote(password)) if password else ()


def _spellings(part: str) -> Iterator[str]:
    """As languages, URLs, JSON and HTML write it, in hexadecimal, and in base64 wherever in a longer text it begins."""
    raw = part.encode()
    yield from (part, repr(part)[1:-1], json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1])
    for encoded in (quote(part, safe=""), quote(part), quote_plus(part)):
        yield from (encoded, _in_lower_case(encoded))
    yield from (html.escape(part), raw.hex(), raw.hex().upper())
    for before in range(3):
        begin, end = -(-8 * before // 6), 8 * (before + len(raw)) // 6  # the characters that depend on the part alone
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + raw).decode()[begin:end]


def _in_lower_case(encoded: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
