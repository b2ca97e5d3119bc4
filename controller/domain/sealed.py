"""Text from people, models and the outside, kept out of the log's leaves.

The log holds the key's name and the digest of the ciphertext; the ciphertext is a blob. Destroying the key erases the
text and leaves every proof and every fold as it was, because no fold ever reads it.
"""

from __future__ import annotations

from controller.domain.base import Fact
from controller.domain.ids import Digest


class Sealed(Fact):
    key_id: str
    digest: Digest  # of the ciphertext blob
    size: int  # bytes of plaintext
