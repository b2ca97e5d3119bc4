"""heartbeat, and what `control` says about the log itself: who signs it, and whose time it bears."""

from __future__ import annotations

from controller.domain.events.base import Event

# --- heartbeat --------------------------------------------------------------------------------------------------------


class Heartbeat(Event):
    """Nothing else happened. A log in which nobody says even this is an alarm."""

    size: int  # entries before this one
    silent_seconds: int  # how long nothing had been appended


# --- control ----------------------------------------------------------------------------------------------------------


class ClockSource(Event):
    """Where this controller's time comes from, said once at each start."""

    source: str  # "chrony: <reference>", "systemd-timesyncd", "unknown"
    synchronised: bool | None  # None: the machine does not say


class SigningKeyRotated(Event):
    """The log's checkpoints get a new key. `statement` is a note that both keys have signed."""

    origin: str
    old: str  # vkey
    new: str  # vkey
    statement: str
    overlap_seconds: int  # how long the old key goes on signing beside the new one
    by: str
    event_id: str
