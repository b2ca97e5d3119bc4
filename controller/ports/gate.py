"""The way out, and the hands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from controller.domain.decision import Decision
from controller.domain.ids import Branch, EffectKey, Repository, Service, StreamId
from controller.domain.verbs import Verb


class Hands(Protocol):
    """What acts. Only the gate holds hands."""

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        """Make it so and return the verb's result. Raises Failed when the world says no and nothing was changed."""
        ...

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        """The result, if this effect has happened already. None: it has not.

        Only asked of verbs that are not `neither`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done:
    result: Any  # the verb's result model
    index: int  # log index of the intent


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody is on it, or may be until `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Blocked:
    """A stop or a freeze stands in the way."""

    scope: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The world said no, and nothing was changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened. A person must look."""

    reason: str


Outcome = Done | Pending | Blocked | Failed | Unknown


class Gate(Protocol):
    async def act(
        self,
        agent: str,
        verb: Verb,
        *,
        key: EffectKey,
        decision: Decision,
        subject: StreamId,
        on_behalf_of: str | None = None,
        sessions: tuple[StreamId, ...] = (),
    ) -> Outcome:
        """Decide, record, decide again, act, record. Raises Refused when this agent may not.

        `sessions`: the streams of the session that acts and of those that lent it its authority, of which none may have
        been revoked, not even since this call was allowed. Empty: the subject's own, if it is a session.
        """
        ...

    async def blocked(
        self,
        agent: str,
        verb: type[Verb],
        *,
        repository: Repository,
        service: Service | None,
        branch: Branch | None = None,
    ) -> Blocked | None:
        """Whether a stop or freeze blocks this agent's forward verbs there. None: nothing does.

        `branch=None`: it acts on no branch, nor on what is built from one.
        """
        ...


class Limits(Protocol):
    """Rates that all controllers on one state share. Nobody is let through when nobody can tell."""

    async def take(self, who: str, *, limit: int, window_s: int) -> float:
        """One of `limit` per window. 0: it is granted; else the seconds until another may be.

        Raises Unavailable when the shared count cannot be reached: the caller refuses.
        """
        ...
