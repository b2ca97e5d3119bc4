"""A decision as data: what was asked, what was on the table, what was chosen, on which evidence, what would change it.

An effect's intent cannot be built without one, so nothing happens that nobody can explain. Sentences here are written
by code from rule ids and numbers; what a model or a person says goes into `explanation`, sealed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from controller.domain.base import Fact
from controller.domain.ids import Digest
from controller.domain.sealed import Sealed

Sentence = Annotated[str, Field(min_length=1, max_length=600)]


class Option(Fact):
    name: str
    why_not: str | None = None  # None: this is the one that was chosen


class Claim(Fact):
    text: Sentence
    evidence: str  # where to look: "log#12", "blob sha256:…", "commit 3f…"
    digest: Digest | None = None  # None: the evidence is a log entry or a commit, which carry their own


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

    @model_validator(mode="after")
    def _one_choice(self) -> Decision:
        chosen = [option.name for option in self.options if option.why_not is None]
        if chosen != [self.choice]:
            raise ValueError(f"choice {self.choice!r} must be the one option without why_not, found {chosen}")
        return self


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
    )
