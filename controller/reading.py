"""Sealed text opened for people, each opening in the log before a word of it is shown.

What cannot be opened is not said to have been read; what can is opened in memory, written down durably, and only then
handed out: if the log does not take the entry, nobody sees the text. Flyball's own steps and agents open text by the
port `Seals` and leave no such entry: what they did with it stands in the log anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.events.privacy import ReasoningRead, reading_stream, sealed_in
from controller.domain.ids import Digest
from controller.domain.sealed import Sealed
from controller.errors import Permanent, Refused, Unavailable
from controller.ports import Log, Rejected, Seals

ACT = "read"  # as people's standing names it
ATTEMPTS = 10  # at an append whose stream moves on meanwhile


class Standing(Protocol):
    @property
    def digest(self) -> Digest: ...

    def may_person(self, person: str, act: str, repository: str | None) -> bool: ...


class Reading:
    def __init__(self, *, log: Log, seals: Seals, standing: Standing) -> None:
        self._log = log
        self._seals = seals
        self._standing = standing

    async def read_sealed(self, person: str, sealed: Sealed, where: int | None) -> str:
        """The text, for showing it to `person`. `where`: log index of its entry; None: asked for by digest alone.

        Raises Refused when they may not read, Permanent when it cannot be opened, Unavailable when the log cannot take
        down that it was read.
        """
        by = self.may(person)
        text = await self._seals.open(sealed)
        await self._note(ReasoningRead(by=by.principal, entry=where, key_id=sealed.key_id, digest=sealed.digest), by)
        return text

    def seals_for(self, person: str, entries: Iterable[Entry]) -> ReadersSeals:
        """Seals whose `open` is a reading by `person`, for whatever draws these entries. Raises Refused at once."""
        self.may(person)
        where = {sealed.digest: entry.index for entry in entries for sealed in sealed_in(entry.event)}
        return ReadersSeals(self, self._seals, person, where)

    def may(self, person: str) -> Caller:
        """Who they are in the log. Raises Refused when they may not read what agents and people wrote."""
        if not person:
            raise Permanent("nobody is signed in", "The door that lets people in must say who they are")
        if not self._standing.may_person(person, ACT, None):
            raise Refused(
                f"{person} may not read sealed text",
                "Ask whoever owns the policy (policy.people)",
                rules=("people/default-deny",),
            )
        return Caller(self._seals.pseudonym(person), self._standing.digest)

    async def _note(self, read: ReasoningRead, by: Caller) -> None:
        stream = reading_stream(read.by)
        for _ in range(ATTEMPTS):
            row = await self._log.stream(stream)
            expect = {stream: row.version if row is not None else 0}
            if not isinstance(await self._log.append([Draft(stream, read)], expect=expect, by=by), Rejected):
                return
        raise Unavailable(f"{stream} is too busy to write to", "Try again; nothing was shown")


class ReadersSeals:
    """The port `Seals` for one person's eyes. A text shown twice by it was read once."""

    def __init__(self, reading: Reading, seals: Seals, person: str, where: dict[Digest, int]) -> None:
        self._reading = reading
        self._seals = seals
        self._person = person
        self._where = where
        self._read: dict[Digest, str] = {}

    async def open(self, sealed: Sealed) -> str:
        if sealed.digest not in self._read:
            where = self._where.get(sealed.digest)
            self._read[sealed.digest] = await self._reading.read_sealed(self._person, sealed, where)
        return self._read[sealed.digest]

    async def seal(self, text: str, *, subject: str | None = None) -> Sealed:
        del text, subject
        raise Permanent("a reader seals nothing", "Seal with the record's own seals")

    def pseudonym(self, person: str) -> str:
        return self._seals.pseudonym(person)
