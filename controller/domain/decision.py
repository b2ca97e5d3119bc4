"""A decision as data: what was asked, what was on the table, what was chosen, on which evidence, what would change it.

An effect's intent cannot be built without one, so nothing happens that nobody can explain. Sentences here are written
by code from rule ids and numbers; what a model or a person says goes into `explanation`, sealed. Evidence is a place
where a reader can look without asking anybody: an entry of the log, a blob, a commit. A decision that rests on a
model's work says which model, on which prompt, in which session.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from controller.domain.base import Fact
from controller.domain.ids import NO_DIGEST, Commit, Digest, SessionId
from controller.domain.sealed import Sealed

Sentence = Annotated[str, Field(min_length=1, max_length=600)]
MOST_REFERENCES = 50


class Where(StrEnum):
    """What evidence can be, spelt as it begins."""

    ENTRY = "log#"
    BLOB = "blob "
    COMMIT = "commit "


class Evidence(NamedTuple):
    where: Where
    name: str  # an index, a digest or a commit id


_EVIDENCE = re.compile(r"(log#)(\d+)|(blob )(sha256:[0-9a-f]{64})|(commit )([0-9a-f]{40})")


def at_entry(index: int) -> str:
    return f"{Where.ENTRY}{index}"


def in_blob(digest: Digest) -> str:
    return f"{Where.BLOB}{digest}"


def at_commit(commit: Commit) -> str:
    return f"{Where.COMMIT}{commit}"


def evidence_of(text: str) -> Evidence | None:
    """Where a claim or a reference points to. None: nowhere that could be looked up."""
    found = _EVIDENCE.fullmatch(text)
    if found is None:
        return None
    where, name = (part for part in found.groups() if part is not None)
    return Evidence(Where(where), name)


class Option(Fact):
    name: str
    why_not: Annotated[str, Field(min_length=1)] | None = None  # None: this is the one that was chosen


class Claim(Fact):
    text: Sentence
    evidence: str  # where to look, as `evidence_of` reads it: "log#12", "blob sha256:…", "commit 3f…"
    digest: Digest | None = None  # None: the evidence is a log entry or a commit, which carry their own


class Reference(Fact):
    """Something that a model was given, or that tells what it did."""

    uri: str  # as a claim's evidence
    digest: Digest | None = None  # None: a commit, which is its own digest


class Maker(Fact):
    """The model whose work a decision rests on."""

    agent: str  # its role
    model: str  # as it was asked for
    version: str  # as it named itself in its last reply
    label: str  # how real it was: live, replayed, scripted, simulated
    prompt_digest: Digest
    context: tuple[Reference, ...] = Field(min_length=1, max_length=MOST_REFERENCES)
    session: SessionId
    iteration: int = Field(ge=1)


class Decision(Fact):
    question: Sentence
    options: tuple[Option, ...] = Field(min_length=2)
    choice: str
    claims: tuple[Claim, ...] = Field(min_length=1)
    confidence_percent: int = Field(ge=0, le=100)
    would_change: Sentence
    fallback: Sentence
    rules: tuple[str, ...] = Field(min_length=1)  # ids of the rules applied
    explanation: Sealed | None = None  # None: no model or person added words
    policy: Digest = NO_DIGEST  # under which the rules stand; empty: written before decisions said so
    maker: Maker | None = None  # None: code alone, by rules

    @model_validator(mode="after")
    def _one_choice(self) -> Decision:
        chosen = [option.name for option in self.options if option.why_not is None]
        if chosen != [self.choice]:
            raise ValueError(f"choice {self.choice!r} must be the one option without why_not, found {chosen}")
        return self

    def under(self, policy: Digest) -> Decision:
        """The same, under this policy; one that names its own keeps it."""
        return self if self.policy else self.model_copy(update={"policy": policy})


def decide(
    question: str,
    choice: str,
    *,
    over: dict[str, str],
    because: tuple[Claim, ...],
    would_change: str,
    fallback: str,
    rules: tuple[str, ...],
    confidence_percent: int = 100,
    explanation: Sealed | None = None,
    policy: Digest = NO_DIGEST,
    maker: Maker | None = None,  # None: code alone, by rules
) -> Decision:
    """Shorthand: `over` maps each rejected option to the reason why not."""
    options = (Option(name=choice), *(Option(name=name, why_not=reason) for name, reason in over.items()))
    return Decision(
        question=question,
        options=options,
        choice=choice,
        claims=because,
        confidence_percent=confidence_percent,
        would_change=would_change,
        fallback=fallback,
        rules=rules,
        explanation=explanation,
        policy=policy,
        maker=maker,
    )
