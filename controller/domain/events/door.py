"""door: what the tool gateway turned away before anybody could be asked for it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from controller.domain.base import Fact
from controller.domain.events.base import Event


class DoorKind(StrEnum):
    """Why a request was turned away. None of it repeats what was sent."""

    NO_TOKEN = "no-token"  # noqa: S105 - a kind. Clients ask once without, to learn where tokens come from
    WRONG_TOKEN = "wrong-token"  # noqa: S105 - a kind
    WRONG_CREDENTIAL = "wrong-credential"  # at the token endpoint
    FRAMING = "framing"  # bytes that two servers read differently
    MALFORMED = "malformed"
    WRONG_HOST = "wrong-host"  # a host or origin that is not this server's
    NO_ROUTE = "no-route"
    SLOW = "slow"  # headers or body did not come in time
    CROWDED = "crowded"  # it waited longest when there was no room


class DoorCount(Fact):
    kind: DoorKind
    count: int


class DoorRefusals(Event):
    """Requests that were refused in one window, by kind."""

    since: datetime
    seconds: int
    counts: tuple[DoorCount, ...]
    campaigns: tuple[DoorKind, ...] = ()  # kinds of which so many came that whoever is on call was told
