"""What an entry can be found by: a handful of named values, and the words of its reasons.

An entry says some of them itself (its kind, who acted, a model's name). Others it inherits from what its stream has
said before: a landing belongs to the model that wrote the change, an effect's outcome to the delivery that its intent
names, a turn to the prompt of its session. What a stream hands on is a small value that is kept between two readings.
Fields are recognised by their names, so that a kind which is added tomorrow can be found by what it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

MAX_WORDS = 400  # of one entry
MAX_VALUE_CHARS = 200
_WORD = re.compile(r"[^\W_]+")


class Facet(StrEnum):
    AGENT = "agent"
    SESSION = "session"
    CLIENT = "client"
    MODEL = "model"
    PROMPT = "prompt"  # digest
    FEATURE = "feature"
    REPOSITORY = "repository"
    DELIVERY = "delivery"
    SERVICE = "service"
    TOOL = "tool"
    KIND = "kind"
    COLOUR = "colour"
    PERSON = "person"  # pseudonym
    COMMIT = "commit"
    WORD = "word"  # of a reason in clear


F = Facet
Values = Mapping[Facet, tuple[str, ...]]
Pair = tuple[Facet, str]

_SAYS: dict[str, Facet] = {
    "model": F.MODEL,
    "prompt_digest": F.PROMPT,
    "session": F.SESSION,
    "repository": F.REPOSITORY,
    "service": F.SERVICE,
    "feature": F.FEATURE,
    "delivery": F.DELIVERY,
    "deliveries": F.DELIVERY,
    "role": F.AGENT,
    "agent": F.AGENT,
    "client": F.CLIENT,
    "verb": F.TOOL,
    "tool": F.TOOL,
    "colour": F.COLOUR,
    "person": F.PERSON,
    "asked_by": F.PERSON,
    "by": F.PERSON,
    "on_behalf_of": F.PERSON,
    "approver": F.PERSON,
    "commit": F.COMMIT,
    "head": F.COMMIT,
    "tested": F.COMMIT,
    "bad_commit": F.COMMIT,
}
_INSIDE = ("calls", "verdict")  # where the same names are looked for one level deeper
_REASONS = frozenset(
    {
        "reason",
        "error",
        "question",
        "choice",
        "why_not",
        "text",
        "would_change",
        "fallback",
        "rules",
        "sentence",
        "outcome",
        "act",
        "caveats",
        "allowed_by",
    }
)
_HOLDS_TEXT = (str, list, dict)
# What the rest of a stream inherits from an entry of this kind.
_HANDED_ON: dict[str, frozenset[Facet]] = {
    "TaskRequested": frozenset({F.REPOSITORY, F.FEATURE, F.PERSON}),
    "ChangeAuthored": frozenset({F.MODEL, F.PROMPT}),
    "RiskClassified": frozenset({F.COLOUR}),
    "SessionStarted": frozenset({F.AGENT, F.MODEL, F.PROMPT, F.REPOSITORY, F.DELIVERY}),
    "ClientSessionStarted": frozenset({F.AGENT, F.CLIENT, F.REPOSITORY, F.PERSON}),
    "ClientRegistered": frozenset({F.AGENT, F.CLIENT, F.REPOSITORY}),
    "LandingPlanned": frozenset({F.DELIVERY}),
    "ReleaseOpened": frozenset({F.DELIVERY, F.REPOSITORY, F.SERVICE}),
    "EffectIntended": frozenset({F.AGENT, F.TOOL}),
}
# What it no longer inherits: a new head has no colour yet and maybe no model; a landing that has ended carries nobody.
_FORGETS: dict[str, frozenset[Facet]] = {
    "ChangeAuthored": frozenset({F.COLOUR, F.MODEL, F.PROMPT}),
    "Landed": frozenset({F.DELIVERY}),
    "Evicted": frozenset({F.DELIVERY}),
}
# Streams that nothing follows once this has been said: what they would hand on need not be kept.
ENDS = frozenset({"EffectDone", "EffectFailed", "EffectUnknown", "SessionEnded", "ClientSessionEnded"})


def parent_of(entry: Mapping[str, Any]) -> str | None:
    """The stream that a stream's first entry inherits from. None: from none."""
    kind, _, about = entry["stream"].partition("/")
    match kind:
        case "session":
            return f"delivery/{about.rpartition('/')[0]}"
        case "people" if "@" not in about:
            return f"delivery/{about}"
        case "effect" if isinstance(subject := entry["body"].get("subject"), str):
            return subject
        case _:
            return None


def begun(entry: Mapping[str, Any], parent: Values) -> Values:
    """What a stream's name says, and what its parent hands on."""
    kind, _, about = entry["stream"].partition("/")
    own: dict[Facet, tuple[str, ...]] = dict(parent)
    match kind:
        case "delivery":
            own[F.DELIVERY] = (about,)
        case "session":
            own |= {F.SESSION: (about,), F.DELIVERY: (about.rpartition("/")[0],)}
        case "people":
            own |= {F.SERVICE: (about.partition("@")[0],)} if "@" in about else {F.DELIVERY: (about,)}
        case "client":
            own |= {F.CLIENT: (about.partition("/")[0],)}
            own |= {F.SESSION: (f"client.{about}",)} if "/" in about else {}
        case "queue":
            own[F.REPOSITORY] = (about.partition("@")[0],)
        case "rollout":
            own[F.SERVICE] = (about.partition("@")[0],)
        case "attestation":
            own[F.COMMIT] = (about,)
    return own


def handed_on(entry: Mapping[str, Any], inherited: Values) -> Values:
    """What the stream's next entry inherits."""
    given, forgotten = _HANDED_ON.get(entry["kind"]), _FORGETS.get(entry["kind"])
    if given is None and forgotten is None:
        return inherited
    kept = {facet: values for facet, values in inherited.items() if facet not in (forgotten or ())}
    return kept | {facet: values for facet, values in _said(entry["body"]).items() if facet in (given or ())}


def pairs_of(entry: Mapping[str, Any], inherited: Values) -> set[Pair]:
    """Everything that the entry can be found by. `inherited` already counts what it hands on itself."""
    found = {(F.KIND, entry["kind"])}
    for values in (inherited, _said(entry["body"]), _said(entry)):
        found.update((facet, value) for facet, each in values.items() for value in each)
    actor, _, name = entry["principal"].partition(":")
    if actor in ("agent", "person"):
        found.add((F.AGENT, name) if actor == "agent" else (F.PERSON, entry["principal"]))
    reasons: list[str] = []
    _add_reasons(entry["body"], reasons)
    found.update((F.WORD, word) for word in words_of(" ".join(reasons)))
    return found


def words_of(text: str) -> set[str]:
    """As they are looked for: in lower case, without punctuation."""
    return set(_WORD.findall(text.lower())[:MAX_WORDS])


def _said(body: Mapping[str, Any], *, depth: int = 1) -> dict[Facet, tuple[str, ...]]:
    found: dict[Facet, tuple[str, ...]] = {}
    for name, value in body.items():
        facet = _SAYS.get(name)
        if facet is not None:
            found[facet] = (*found.get(facet, ()), *_strings(value))
        elif name in _INSIDE and depth:
            for inner in value if isinstance(value, list) else (value,):
                for deeper, values in _said(inner, depth=0).items() if isinstance(inner, dict) else ():
                    found[deeper] = (*found.get(deeper, ()), *values)
    return {facet: values for facet, values in found.items() if values}


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value[:MAX_VALUE_CHARS],) if value else ()
    values = value if isinstance(value, list) else ()
    return tuple(one[:MAX_VALUE_CHARS] for one in values if isinstance(one, str) and one)


def _add_reasons(value: Any, found: list[str], *, spoken: bool = False) -> None:
    """Texts in clear under the names that reasons go by. Sealed text is no string and is passed over."""
    if isinstance(value, str):
        if spoken:
            found.append(value)
    elif isinstance(value, dict):
        for name, one in value.items():
            if isinstance(one, _HOLDS_TEXT):
                _add_reasons(one, found, spoken=name in _REASONS)
    elif isinstance(value, list):
        for one in value:
            _add_reasons(one, found, spoken=spoken)
