"""A state folder and the record in it: enough to read, to verify, and to take a person's word down. Nothing acts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from controller.adapters.clock import SystemClock
from controller.adapters.grants import ListedPeople
from controller.domain.entry import Draft
from controller.domain.ids import Digest
from controller.errors import ConfigError
from controller.intake import Intake
from controller.ledger.blobs import FileBlobs
from controller.ledger.moved import moved_to
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Blobs, Clock, Log
from controller.reading import Reading
from controller.settings import Settings
from rbac.decide import Authority
from rbac.model import Served
from tools.mounts import catalogue_of


@dataclass(frozen=True)
class Folder:
    """Where one Flyball keeps everything."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def forge(self) -> Path:
        return self.root / "forge"

    @property
    def edge(self) -> Path:
        return self.root / "edge"

    @property
    def outbox(self) -> Path:
        return self.root / "messages.jsonl"

    @property
    def limits(self) -> Path:
        return self.root / "limits.db"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints.db"

    def make(self) -> Folder:
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("blobs", "keys", "forge", "edge", "ci", "workspaces", "workers"):
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
            (self.root / ".gitignore").write_text("*\n")  # it often stands in somebody's repository
        except OSError as error:
            raise ConfigError(
                f"the state folder {self.root} cannot be made: {error.strerror}", "Choose another with --dir"
            ) from error
        return self


class KeptLog(Log, Protocol):
    """A log that somebody has opened and must close."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Record:
    """The log and what belongs to it: enough to read, to verify and to take a person's word down."""

    folder: Folder
    clock: SystemClock
    log: KeptLog
    blobs: Blobs
    seals: LocalSeals
    authority: Authority
    rules: Path  # the folder of grants and policies in force
    intake: Intake
    reading: Reading

    def close(self) -> None:
        self.log.close()


def open_record(folder: Folder, settings: Settings, root: Path) -> Record:
    """Open the log of a state folder, making it if need be."""
    folder.make()
    clock = SystemClock()
    blobs = FileBlobs(folder.blobs)
    seals = LocalSeals(folder.keys, blobs)
    log = _opened(folder, settings, clock, seals.redactor.clean)
    rules = settings.rules(root)
    authority = Authority([served(settings, root)], rules, catalogue_of(settings.gateway.mounts))
    standing = standing_of(settings, rules, Digest(authority.digest))
    intake = Intake(log=log, seals=seals, standing=standing, approvals=settings.policy.approvals)
    reading = Reading(log=log, seals=seals, standing=standing)
    return Record(folder, clock, log, blobs, seals, authority, rules, intake, reading)


def _opened(folder: Folder, settings: Settings, clock: Clock, clean: Callable[[Draft], Draft]) -> KeptLog:
    """Raises ConfigError when the log has moved away from the file that is asked for."""
    if dsn := dsn_of(settings):
        from controller.ledger.postgres import PostgresLog  # noqa: PLC0415 - libpq is loaded only where it is used

        return PostgresLog(dsn, clock, clean=clean)
    if folder.log.is_file() and (gone := moved_to(folder.log)) is not None:
        raise ConfigError(f"the log in {folder.log} has moved to {gone}", "Set ledger.postgres_env in flyball.toml")
    return SqliteLog(folder.log, clock, clean=clean)


def dsn_of(settings: Settings) -> str:
    """Empty: the log is a file in the state folder. Raises ConfigError when the variable is not set."""
    name = settings.ledger.postgres_env
    if name and not os.environ.get(name):
        raise ConfigError(f"{name} is not set, and ledger.postgres_env names it", "Set it to a connection string")
    return os.environ.get(name, "") if name else ""


def standing_of(settings: Settings, rules: Path, digest: Digest) -> ListedPeople:
    """`digest`: of the rules for agents."""
    return ListedPeople(settings.policy.people, digest, settings.policy.members, rules)


def served(settings: Settings, root: Path) -> Served:
    repository = settings.configured(root)
    environments = (repository.service.environment,) if repository.service else ()
    return Served(repository=repository.name, branch=repository.branch, environments=environments)


def discard(folder: Folder) -> None:
    """Throw a state folder away. Only one that Flyball made: it must have a log or be empty."""
    if folder.root.exists() and any(folder.root.iterdir()) and not folder.log.exists():
        raise ConfigError(f"{folder.root} is not a state folder of Flyball", "Choose another with --dir")
    shutil.rmtree(folder.root, ignore_errors=False) if folder.root.exists() else None
