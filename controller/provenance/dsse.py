"""DSSE envelopes (github.com/secure-systems-lab/dsse, version 1): a payload, its type, and signatures over both.

What is signed is the pre-authentication encoding, never JSON: `DSSEv1 <len type> <type> <len payload> <payload>`. So
nothing has to be brought into a canonical form to be verified, and whoever reads the payload reads the very bytes that
were signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from controller.domain.base import Fact
from controller.domain.ids import canonical
from controller.errors import Permanent

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 1_000_000
MAX_SIGNATURES = 20


class Signature(Fact):
    keyid: str = ""  # a hint which key to try; "": none is given
    sig: str  # base64


class Envelope(Fact):
    payload: str  # base64
    payloadType: str  # noqa: N815 - the format's own spelling
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1, max_length=MAX_SIGNATURES)]


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(payload: bytes, key: Ed25519PrivateKey, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """One line of canonical JSON. Ed25519 draws no random numbers: the same payload, the same envelope."""
    signature = key.sign(pae(payload_type, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
        }
    )


def verified(envelope: bytes, keys: Iterable[Ed25519PublicKey], payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The payload, if one of `keys` signed it. Signatures of other keys are passed over.

    Raises Permanent for what is no envelope, holds another type, or is signed by none of the keys.
    """
    read = parsed(envelope)
    if read.payloadType != payload_type:
        raise Permanent(f"the envelope holds {read.payloadType[:80]!r}, not {payload_type}", "Ask for the right one")
    payload = _unbase64(read.payload)
    message = pae(read.payloadType, payload)
    signatures = [_unbase64(one.sig) for one in read.signatures]
    if not any(_holds(key, signature, message) for key in keys for signature in signatures):
        raise Permanent("the envelope is signed by none of the keys that are trusted here", "Believe nothing in it")
    return payload


def parsed(envelope: bytes) -> Envelope:
    """What it says, verified by nobody. Raises Permanent for anything but the format; names may not stand twice."""
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise Permanent(f"the envelope has more than {MAX_ENVELOPE_BYTES} bytes", "Ask who gave it to you")
    try:
        return Envelope.model_validate(json.loads(envelope, object_pairs_hook=_once))
    except (ValueError, ValidationError, RecursionError) as error:
        raise Permanent("this is no DSSE envelope", "Ask for another copy") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _holds(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _unbase64(text: str) -> bytes:
    """Standard or URL-safe, as the format allows either."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Permanent("the envelope holds what is no base64", "Ask for another copy") from error
