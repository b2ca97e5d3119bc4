"""What a commit that somebody pushes may say: who made it, when, and a message. Everything else is ours to say.

Its bytes are read as they stand, because readers disagree about them: a header that one of them ignores names a person
for another. Author and committer are those that the session was told; trailers that speak of people or of where a
change came from are written by code alone, in whatever letters they look so. A secret in a message would go out with
it: the message cannot be written anew here, for the commit's id would be another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.domain.secrets_found import secrets_in
from controller.provenance.identity import GitIdentity
from controller.provenance.trailers import SIGNED_OFF, claimed_keys
from prompts.seen import is_seen
from rbac.lookalikes import looks_like

MOST_PARENTS = 16  # as many as git's own octopus merges were ever meant to show
KEY_CHARS = 80  # of a line, in which a trailer's key would end
MESSAGE_BYTES = 64 * 1024
OLDEST = 1_112_911_993  # seconds: the first commit of git itself
AHEAD_S = 24 * 3_600  # a clock may be wrong, and a day is no absurd date
JOINERS = frozenset({"\u200c", "\u200d", "\ufe0f"})  # of emoji, and of letters in some scripts
MOST_ZONE = 14 * 60  # minutes from UTC

_HEADERS = re.compile(
    rb"tree [0-9a-f]{40}\n(?:parent [0-9a-f]{40}\n)*author (?P<author>[^\n]*)\ncommitter (?P<committer>[^\n]*)\n",
)
_PARENT = re.compile(rb"^parent ([0-9a-f]{40})\n", re.MULTILINE)
_PERSON = re.compile(rb"(?P<who>[^<>\n]*<[^<>\n]*>) (?P<at>[0-9]{1,12}) (?P<sign>[+-])(?P<hh>[0-9]{2})(?P<mm>[0-9]{2})")


def faults_of(raw: bytes, by: GitIdentity, now_s: float) -> frozenset[str]:
    """By name, as the git door has words for them. Empty: nothing is wrong with it."""
    head, _, message = raw.partition(b"\n\n")
    found = set(_of_message(message))
    headers = _HEADERS.fullmatch(head + b"\n")
    if headers is None:
        return frozenset({*found, "extra_headers"})
    parents = _PARENT.findall(head + b"\n")
    if len(parents) > MOST_PARENTS or len(set(parents)) < len(parents):
        found.add("odd_parents")
    for line in headers.group("author", "committer"):
        person = _PERSON.fullmatch(line)
        if person is None or person["who"] != by.spelt.encode():
            found.add("foreign_identities")
        if person is None or not _plausible(person.groupdict(), now_s):
            found.add("absurd_dates")
    return frozenset(found)


def _plausible(person: Mapping[str, bytes], now_s: float) -> bool:
    zone = int(person["hh"]) * 60 + int(person["mm"])
    return OLDEST <= int(person["at"]) <= now_s + AHEAD_S and int(person["mm"]) < 60 and zone <= MOST_ZONE  # noqa: PLR2004 - minutes


def _of_message(message: bytes) -> frozenset[str]:
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return frozenset({"unreadable_messages"})
    keys = claimed_keys(text) | claimed_keys(_as_it_looks(text))
    found = {"signed_off"} if SIGNED_OFF in keys else set[str]()
    if keys - {SIGNED_OFF}:
        found.add("forged_trailers")
    if len(message) > MESSAGE_BYTES or any(map(_hides, text)):
        found.add("unreadable_messages")
    if any(secrets_in(text)):
        found.add("secret_messages")
    return frozenset(found)


def _as_it_looks(text: str) -> str:
    """The beginnings of its lines, in the ASCII that their letters look like."""
    begins = (line[:KEY_CHARS] for line in text.splitlines() if not line[:KEY_CHARS].isascii())
    return "\n".join(map(looks_like, begins))


def _hides(character: str) -> bool:
    """It moves a terminal, turns the line around, or cannot be seen."""
    if character in "\n\t" or character in JOINERS:
        return False
    return not is_seen(character)
