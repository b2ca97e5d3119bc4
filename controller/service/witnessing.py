"""A witness as a process: its keys and its memory in a folder of its own, two doors over HTTP.

It belongs to somebody who is not the log's operator, on a machine that is not the log's: what it proves is that the
operator would have needed their help.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.clock import SystemClock
from controller.adapters.witness_http import Said, WitnessDoors, witness_server
from controller.errors import ConfigError, Permanent
from controller.ledger.files import locked, replace_file
from controller.ledger.keyring import stored_key
from controller.ledger.note import KeyType, SigningKey, VerifierKey
from controller.ledger.witness import Answer, Witness

log = logging.getLogger("flyball.witness")
DEFAULT_NAME = "flyball-witness"
MAX_LOGS = 1_000
_FILES = {KeyType.COSIGNATURE: "key.pem", KeyType.ML_DSA_44: "key-ml-dsa-44.pem"}


@dataclass(frozen=True, slots=True)
class Listening:
    host: str
    port: int  # 0: any free one

    @staticmethod
    def parse(text: str) -> Listening:
        """HOST:PORT. Raises ConfigError for anything else."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
            raise ConfigError(f"{text!r} is no HOST:PORT", "For example: --listen 127.0.0.1:8477")
        return Listening(host.strip("[]"), int(port))


def witness_keys(folder: Path, name: str = "") -> tuple[SigningKey, ...]:
    """The witness's keys, made on first use: Ed25519, and ML-DSA-44 where this machine's cryptography has it.

    `name`: empty for the one it has, or for one of its own when it is new. Raises ConfigError for another name than it
    has: its cosignatures bear it for ever.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / "keys.lock", wait=True):
        named = _name(folder, name)
        keys = [stored_key(folder / _FILES[KeyType.COSIGNATURE], named, KeyType.COSIGNATURE)]
        try:
            keys.append(stored_key(folder / _FILES[KeyType.ML_DSA_44], named, KeyType.ML_DSA_44))
        except Permanent as error:
            if (folder / _FILES[KeyType.ML_DSA_44]).exists():
                raise
            log.warning("%s; cosigning with Ed25519 only", error.message)
    return tuple(keys)


def _name(folder: Path, wanted: str) -> str:
    path = folder / "name"
    if not path.exists():
        made = wanted or f"{DEFAULT_NAME}/{secrets.token_hex(4)}"
        VerifierKey(made, KeyType.COSIGNATURE, b"\0" * KeyType.COSIGNATURE.public_bytes)  # refuses what is no name
        replace_file(path, made.encode(), 0o644)
    found = path.read_text()
    if wanted not in ("", found):
        raise ConfigError(f"this witness is called {found}, not {wanted}", "Use another --dir for another witness")
    return found


def doors_of(witness: Witness) -> WitnessDoors:
    def said(answer: Answer) -> Said:
        return answer.status, answer.body, answer.content_type

    return WitnessDoors(
        lambda body: said(witness.add_checkpoint(body)), lambda hashed: said(witness.checkpoint(hashed))
    )


async def serve(
    folder: Path, listening: Listening, keys: tuple[SigningKey, ...], logs: tuple[VerifierKey, ...]
) -> None:
    """Until SIGTERM or SIGINT. Raises ConfigError when it may witness nothing, or cannot listen."""
    if not 0 < len(logs) <= MAX_LOGS:
        raise ConfigError(f"{len(logs)} logs to witness", "Name at least one by its vkey: --log VKEY")
    witness = Witness(folder / "witness.db", keys, logs, SystemClock())
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    server = witness_server(doors_of(witness))
    try:
        listener = await server.listen_at(listening.host, listening.port)
    except OSError as error:
        witness.close()
        raise ConfigError(
            f"{listening.host}:{listening.port} cannot be had: {error.strerror}", "Choose another"
        ) from error
    try:
        _announce(folder, listener)
        await ending.wait()
    finally:
        listener.close()
        await server.conversations.end()
        witness.close()


def _announce(folder: Path, listener: asyncio.Server) -> None:
    host, port = listener.sockets[0].getsockname()[:2]
    replace_file(folder / "listening", f"http://{f'[{host}]' if ':' in host else host}:{port}\n".encode(), 0o644)
    log.info("ready: listening at %s:%d", host, port)
