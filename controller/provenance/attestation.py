"""The statement about a landed commit: an in-toto Statement v1 whose predicate is a SLSA verification summary.

It claims what the log can show and no more. Level 3 of SLSA's source track asks for technical controls that were in
force without a gap; the log shows that where the commit landed directly on what the queue itself had landed before.
After a push past the queue, and for the first landing of all, the claim is level 2: history and provenance. Level 4
asks for two trusted persons, and an agent is none: it is never claimed, whoever approved. What SLSA has no name for
(the colour, the tested commit being the landed one) stands beside the level as ORG_SOURCE_ properties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from controller import VERSION
from controller.domain.entry import Entry
from controller.domain.ids import Branch, Commit, Digest, Repository, canonical, digest_bytes
from controller.domain.risk import Colour
from controller.domain.verbs import Author
from controller.errors import Permanent

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
SLSA_VERSION = "1.2"
DETAILS = "urn:flyball:source-provenance:v1"  # readers of a predicate pass over names that they do not know
LEVEL_2 = "SLSA_SOURCE_LEVEL_2"
LEVEL_3 = "SLSA_SOURCE_LEVEL_3"
TESTED = "ORG_SOURCE_FLYBALL_TESTED_AS_LANDED"
UNTAINTED = "ORG_SOURCE_FLYBALL_UNTAINTED"
_COLOUR = {
    Colour.GREEN: "ORG_SOURCE_FLYBALL_GREEN",
    Colour.YELLOW: "ORG_SOURCE_FLYBALL_YELLOW",
    Colour.RED: "ORG_SOURCE_FLYBALL_RED",
}
_WORST = (Colour.RED, Colour.YELLOW, Colour.GREEN)
APPROVED = "ORG_SOURCE_FLYBALL_APPROVED_BY_PERSON"


@dataclass(frozen=True, slots=True)
class Carried:
    """One delivery that the landing carried."""

    delivery: str
    requested_by: str  # principal; people are keyed pseudonyms
    head: Commit
    colour: Colour
    rules: tuple[str, ...]  # ids of the rules that gave the colour
    approver: str
    by_person: bool
    policy: Digest
    tainted: bool
    author: Author | None  # None: made by code alone (a revert)
    evidence: tuple[Entry, ...]  # the delivery's entries that the summary rests on


@dataclass(frozen=True, slots=True)
class Landing:
    """Everything that the statement is made of, out of the log."""

    origin: str  # the log's name
    repository: Repository
    branch: Branch
    commit: Commit
    base: Commit
    landed: Entry  # the queue's entry
    verified: bool  # the branch holds what was tested, and nothing but the proposed files was touched
    tested: bool  # CI passed on this very commit
    unbroken: bool  # the base is what this queue landed before
    carried: tuple[Carried, ...]
    evidence: tuple[Entry, ...]  # the queue's entries that the summary rests on


def levels(landing: Landing) -> tuple[str, ...]:
    """What is claimed, the level first. Empty: verification failed, and nothing is."""
    colours = {one.colour for one in landing.carried}
    if not landing.verified or not landing.tested or not colours or Colour.RED in colours:
        return ()
    found = [LEVEL_3 if landing.unbroken else LEVEL_2, _COLOUR[_worst(colours)], TESTED]
    if all(one.by_person for one in landing.carried):
        found.append(APPROVED)
    if not any(one.tainted for one in landing.carried):
        found.append(UNTAINTED)
    return tuple(found)


def statement(landing: Landing) -> bytes:
    """Canonical JSON: the same landing, the same bytes."""
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {
                    "digest": {"gitCommit": landing.commit},
                    "annotations": {"sourceRefs": [f"refs/heads/{landing.branch}"]},
                }
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": _summary(landing),
        }
    )


def authors_of(said: bytes) -> tuple[Author, ...]:
    """Who wrote the heads that a statement is about. Raises Permanent for a statement that is none of ours."""
    try:
        details = json.loads(said)["predicate"][DETAILS]["deliveries"]
        return tuple(Author.model_validate(one["author"]) for one in details if one["author"] is not None)
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent("this statement names no deliveries", "Restore the blob that it was read from") from error


def claimed(said: bytes) -> tuple[str, ...]:
    """The levels and properties that a statement claims. Raises Permanent for a statement that is none of ours."""
    try:
        return tuple(str(level) for level in json.loads(said)["predicate"]["verifiedLevels"])
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent("this statement claims nothing", "Restore the blob that it was read from") from error


def _summary(landing: Landing) -> Mapping[str, Any]:
    claimed = levels(landing)
    return {
        "verifier": {"id": f"urn:flyball:log:{landing.origin}", "version": {"flyball": VERSION}},
        "timeVerified": landing.landed.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),  # whole seconds
        "resourceUri": f"urn:flyball:repository:{landing.origin}:{landing.repository}",
        "policy": _policy(landing),
        "inputAttestations": [_evidence(landing.origin, one) for one in _all_evidence(landing)],
        "verificationResult": "PASSED" if claimed else "FAILED",
        "verifiedLevels": list(claimed),
        "slsaVersion": SLSA_VERSION,
        DETAILS: {
            "base": landing.base,
            "unbroken": landing.unbroken,
            "deliveries": [_details(one) for one in landing.carried],
        },
    }


def _policy(landing: Landing) -> Mapping[str, Any]:
    """The grants and policies in force when it landed, as its entry has them."""
    return {"uri": "urn:flyball:policy", "digest": _sha256(landing.landed.policy)}


def _details(one: Carried) -> Mapping[str, Any]:
    return {
        "delivery": one.delivery,
        "requestedBy": one.requested_by,
        "head": one.head,
        "colour": one.colour.value,
        "rules": list(one.rules),
        "approver": one.approver,
        "approvedByPerson": one.by_person,
        "riskPolicy": _sha256(one.policy),
        "tainted": one.tainted,
        "author": None if one.author is None else one.author.model_dump(mode="json"),
    }


def _evidence(origin: str, entry: Entry) -> Mapping[str, Any]:
    """An entry of the log, by its place and the digest of its stored bytes."""
    return {
        "uri": f"urn:flyball:entry:{origin}#{entry.index}",
        "digest": _sha256(digest_bytes(entry.leaf)),
        "annotations": {"kind": entry.kind},
    }


def _all_evidence(landing: Landing) -> list[Entry]:
    found = {entry.index: entry for entry in (*landing.evidence, landing.landed)}
    for one in landing.carried:
        found.update((entry.index, entry) for entry in one.evidence)
    return [found[index] for index in sorted(found)]


def _sha256(digest: Digest) -> Mapping[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _worst(colours: set[Colour]) -> Colour:
    return next(colour for colour in _WORST if colour in colours)
