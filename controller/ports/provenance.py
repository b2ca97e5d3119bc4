"""Who vouches for what landed."""

from __future__ import annotations

from typing import Protocol


class Attestor(Protocol):
    """Signs statements about commits, with a key that signs nothing else. The same statement, the same envelope."""

    @property
    def vkey(self) -> str:
        """The public key as people exchange keys: name, id and key."""
        ...

    def envelope(self, statement: bytes) -> bytes:
        """A DSSE envelope around an in-toto statement, as one line of JSON."""
        ...
