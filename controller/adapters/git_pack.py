"""git's wire over HTTP, as bytes: pkt-lines, what a fetch asks for, what a push asks for, and the answers to both.

Requests are read by an allow-list. A fetch may name commits it wants and has; a word that is not on the list is no
fetch of ours, because the second protocol lets a client ask for any object by its id and for more than objects. A push
is read up to the end of its commands only, so that it can be decided before a byte of its pack is looked at.
See gitprotocol-common(5), gitprotocol-pack(5) and gitprotocol-v2(5).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.domain.ids import Commit
from controller.errors import Permanent

FLUSH, DELIMITER = b"0000", b"0001"
MAX_PACKET = 65_516  # bytes of content in one pkt-line
MAX_COMMANDS_BYTES = 64 * 1024  # of a push, before its pack
MAX_WANTS = 256
NO_COMMIT = "0" * 40  # how git spells "there is none"
WAY_OUT = "Use an ordinary git client"
# no-thin: every object that a pack is built from comes with it, so no pack can be made to unfold what its sender lacks.
RECEIVES = b"report-status ofs-delta no-thin object-format=sha1 agent=flyball"

_CLAIM = re.compile(rb"(?:have|shallow) ([0-9a-f]{40})\n?")
_WANT = re.compile(rb"want ([0-9a-f]{40})(?: [ -~]*)?")
_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0\n]{1,4096})(?:\0([ -~]*))?\n?")
_FETCH_WORDS = re.compile(
    rb"(?:have|shallow) [0-9a-f]{40}|deepen [0-9]{1,9}|deepen-since [0-9]{1,12}|deepen-relative|done|thin-pack|"
    rb"no-progress|include-tag|ofs-delta|wait-for-done|peel|symrefs|unborn|ref-prefix [ -~]+|command=(?:fetch|ls-refs)|"
    rb"object-format=sha1|(?:agent|session-id)=[ -~]+"
)


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a client asks of upload-pack, in any version of the protocol."""

    wants: tuple[Commit, ...]  # empty: it only lists refs, or has given up


@dataclass(frozen=True, slots=True)
class RefCommand:
    old: Commit | None  # None: the ref is to be made
    new: Commit | None  # None: the ref is to be deleted
    ref: str


@dataclass(frozen=True, slots=True)
class PushRequest:
    commands: tuple[RefCommand, ...]  # empty: the client only tries whether it is let in
    shallow: int  # commits whose history the client does not have
    head: bytes  # the commands as they came
    pack: AsyncIterator[bytes]  # unread


def packet(content: bytes) -> bytes:
    if len(content) > MAX_PACKET:
        raise ValueError(f"a pkt-line holds {MAX_PACKET} bytes, not {len(content)}")
    return b"%04x%s" % (len(content) + 4, content)


def fetch_request(body: bytes) -> FetchRequest:
    """Raises Permanent for anything but a plain fetch or listing."""
    wants: list[Commit] = []
    for line in _packets(body):
        if found := _WANT.fullmatch(line):
            wants.append(Commit(found[1].decode()))
        elif not _FETCH_WORDS.fullmatch(line):
            raise Permanent("the fetch asks for what is not served here", WAY_OUT)
    if len(wants) > MAX_WANTS:
        raise Permanent(f"the fetch wants more than {MAX_WANTS} commits", WAY_OUT)
    return FetchRequest(tuple(dict.fromkeys(wants)))


def known_only(body: bytes, known: Container[bytes]) -> bytes:
    """A fetch without the commits that the client says it has and nobody has shown it.

    What git answers to a `have`, and what it builds a pack on, would tell whether there is such a commit.
    """
    return b"".join(line for line, content in _lines(body) if not _unknown(content, known))


def _unknown(content: bytes, known: Container[bytes]) -> bool:
    found = _CLAIM.fullmatch(content)
    return found is not None and found[1] not in known


def _packets(body: bytes) -> Iterable[bytes]:
    """Contents of the pkt-lines, without those that only separate."""
    return (content.removesuffix(b"\n") for _, content in _lines(body) if content)


def _lines(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each pkt-line as it stands, with its content; those that only separate have none."""
    at = 0
    while at < len(body):
        size = max(_size(body[at : at + 4]), 4)
        line = body[at : at + size]
        if len(line) != size:
            raise Permanent("the request is cut off", WAY_OUT)
        yield line, line[4:]
        at += size


def _size(prefix: bytes) -> int:
    """Of a pkt-line with its prefix; 0, 1 and 2 are separators. Raises Permanent."""
    if not re.fullmatch(rb"[0-9a-f]{4}", prefix) or (size := int(prefix, 16)) == 3:  # noqa: PLR2004 - has no meaning
        raise Permanent("the request is not made of pkt-lines", WAY_OUT)
    return size


async def push_request(chunks: AsyncIterator[bytes]) -> PushRequest:
    """Reads up to the end of the commands. Raises Permanent for what is no plain push."""
    reader = _Reader(chunks)
    commands: list[RefCommand] = []
    shallow = 0
    while (line := await reader.packet()) is not None:
        if line.startswith(b"shallow "):
            shallow += 1
        else:
            commands.append(_command(line))
    return PushRequest(tuple(commands), shallow, bytes(reader.taken), reader.rest())


def _command(line: bytes) -> RefCommand:
    found = _COMMAND.fullmatch(line)
    if found is None:
        raise Permanent("the push holds a line that is no command on a ref", WAY_OUT)
    capabilities = (found[4] or b"").split()
    if b"push-options" in capabilities:
        raise Permanent("push options are not taken", "Push without -o")
    old, new, ref = (part.decode(errors="surrogateescape") for part in found.groups()[:3])
    return RefCommand(_commit(old), _commit(new), ref)


def _commit(text: str) -> Commit | None:
    return None if text == NO_COMMIT else Commit(text)


class _Reader:
    """pkt-lines off a stream, and then what follows them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._unread = bytearray()
        self.taken = bytearray()

    async def packet(self) -> bytes | None:
        """None: the end of the commands."""
        size = _size(await self._take(4))
        if size == 0:
            return None
        if len(self.taken) + size > MAX_COMMANDS_BYTES:
            raise Permanent(f"the commands of the push are longer than {MAX_COMMANDS_BYTES} bytes", WAY_OUT)
        return await self._take(max(size, 4) - 4)

    async def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise Permanent("the push is cut off", "Push again")
            self._unread += chunk
        found = bytes(self._unread[:size])
        del self._unread[:size]
        self.taken += found
        return found

    async def rest(self) -> AsyncIterator[bytes]:
        if self._unread:
            yield bytes(self._unread)
        async for chunk in self._chunks:
            yield chunk


def service_line(service: str) -> bytes:
    """What stands before an advertisement over HTTP, in the versions before the second."""
    return packet(f"# service={service}\n".encode()) + FLUSH


def push_advertisement(tips: Mapping[str, Commit]) -> bytes:
    lines = [f"{commit} {ref}".encode() for ref, commit in sorted(tips.items())]
    first, *others = lines or [f"{NO_COMMIT} capabilities^{{}}".encode()]
    return b"".join([packet(first + b"\0" + RECEIVES + b"\n"), *(packet(line + b"\n") for line in others), FLUSH])


def report(commands: Iterable[RefCommand], words: str) -> bytes:
    """report-status: every command has been carried out, or none and `words` say why. "": they have been."""
    lines = [b"unpack ok\n"]
    for command in commands:
        ref = command.ref.encode(errors="surrogateescape")
        lines.append(b"ng %s %s\n" % (ref, one_line(words)) if words else b"ok %s\n" % ref)
    return b"".join(map(packet, lines)) + FLUSH


def error(words: str) -> bytes:
    """Ends a fetch with words that the client shows."""
    return packet(b"ERR " + one_line(words) + b"\n")


def one_line(words: str, limit: int = 1_000) -> bytes:
    """Printable ASCII: it ends up on somebody's terminal."""
    return re.sub(r"[^ -~]+", " ", words)[:limit].strip().encode()
