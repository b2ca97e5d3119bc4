"""Blobs in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.domain.ids import Digest, digest_bytes
from controller.errors import Permanent


@dataclass
class SimBlobs:
    contents: dict[Digest, bytes] = field(default_factory=dict)

    async def put(self, content: bytes) -> Digest:
        digest = digest_bytes(content)
        self.contents[digest] = content
        return digest

    async def get(self, digest: Digest) -> bytes:
        """Raises Permanent if it is not there."""
        found = self.contents.get(digest)
        if found is None:
            raise Permanent(f"blob {digest} is not here", "Restore it")
        return found
