"""client/<name> and client/<name>/<n>: programs outside that speak to the gateway under an identity of their own."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from controller.domain.events.base import Event
from controller.domain.events.session import CallRecord
from controller.domain.ids import Branch, Commit, Digest, Repository, SessionId
from controller.domain.sealed import Sealed

HowIssued = Literal["client_secret", "private_key_jwt", "token_exchange", "external_issuer", "command_line"]

# --- client/<name> ----------------------------------------------------------------------------------------------------


class ClientRegistered(Event):
    """A person lets a program in, as one role, in one repository. The secret itself is kept nowhere."""

    client: str
    role: str
    repository: Repository
    scopes: tuple[str, ...]  # "<belt>:read" or "<belt>:write"; never more than the role's grants give
    allowed_paths: tuple[str, ...]
    secret: Digest | None  # None: it has none, and proves itself by its key or only holds tokens from the command line
    public_key: str | None  # PEM, for private_key_jwt (RFC 7523). None: it has none
    by: str
    event_id: str


class ClientRetired(Event):
    """None of its tokens counts from here on."""

    terminal: ClassVar[bool] = True
    by: str
    reason: str
    event_id: str


# --- client/<name>/<n> ------------------------------------------------------------------------------------------------


class ClientSessionStarted(Event):
    """`parent` lent its authority: what this session may do is what every session of the chain may do."""

    client: str
    role: str
    repository: Repository
    base: Commit
    branch: Branch  # the one branch it may push
    scopes: tuple[str, ...]
    allowed_paths: tuple[str, ...]
    on_behalf_of: str
    parent: SessionId | None  # None: it stands for itself
    expires_at: datetime


class TokenIssued(Event):
    token: Digest  # of the bearer token, which is kept nowhere
    audience: str  # the resource that it is good for (RFC 8707)
    scopes: tuple[str, ...]
    expires_at: datetime
    how: HowIssued


class CallsRecorded(Event):
    """Allowed contained and read calls of a caller that counts no turns, in the order in which they were answered."""

    calls: tuple[CallRecord, ...]
    tainted: bool


class ClientSessionEnded(Event):
    terminal: ClassVar[bool] = True
    reason: str


# --- of every agent's session -----------------------------------------------------------------------------------------


class ReasoningRecorded(Event):
    """Why an agent did what it did, in its own words: material for a reviewer, never for a decision."""

    turn: int
    index: int
    reasoning: Sealed
    options: int
    claims: int
    confidence_percent: int


# --- policy/<digest> --------------------------------------------------------------------------------------------------


class PolicyProposed(Event):
    """A change of one file of grants or policies that an agent would like. People adopt it by changing the file."""

    terminal: ClassVar[bool] = True
    file: str
    before: Digest  # of every file in force when it was proposed
    after: Digest  # of every file as it would be
    text: Sealed
    why: Sealed
    gains: int  # (role, tool, place) triples that would be allowed and are not
    losses: int
    cases_failed: int  # of the policy tests, under the proposal
    agent: str
    session: SessionId
    event_id: str
