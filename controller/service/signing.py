"""The signer as a process of its own: it alone has the key, and of the log it can only read.

    python -m controller.service.signing --dir STATE [--with-parent] [--witness URL VKEY ...]

A controller starts it as a child and starts it again when it ends; run by itself it may belong to a user who can read
`log.db` and nothing else. One signer holds a folder; another says so and ends. Signing never waits for a witness: each
has a task of its own, which submits the newest checkpoint whenever there is a newer one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from functools import partial
from pathlib import Path

from controller.adapters.clock import SystemClock
from controller.adapters.witness_client import WitnessClient, check_url
from controller.errors import ConfigError, FlyballError, Permanent
from controller.ledger.alarms import Misgrown, end_silence, raise_alarm
from controller.ledger.checkpoint_book import CheckpointBook, SignedCheckpoint
from controller.ledger.files import locked
from controller.ledger.keyring import FOLDER, Keyring
from controller.ledger.publication import BOOK, Publication
from controller.ledger.signer import OpenTree, Signer
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.submission import WitnessKeys, submit
from controller.settings import LedgerSection

log = logging.getLogger("flyball.signer")
EVERY_S = 0.25  # how often the log is looked at: a signature lags by at most this and some milliseconds
LAST_WORDS_S = 3.0  # for the witnesses, when told to end
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # after a witness's troubles; a new checkpoint does not shorten it
SIGNER = "signer"
HEARTBEATS_MISSED = 2


class Ended(IntEnum):
    """Exit codes."""

    WELL = 0
    UNUSABLE = 2
    ALARM = 3  # the log must not be signed
    HELD = 4  # another signer holds the folder


@dataclass(frozen=True, slots=True)
class SigningPlan:
    state: Path  # with log.db
    origin: str = ""  # empty: the log is named after its first entry
    witnesses: tuple[WitnessKeys, ...] = ()
    heartbeat_seconds: int = 300  # 0: silence is no alarm
    folder: Path | None = None  # the signer's own. None: `signer` in the state folder
    postgres_env: str = ""  # environment variable with a connection string. Empty: SQLite in the state folder

    @property
    def own(self) -> Path:
        return self.folder or self.state / SIGNER

    @property
    def tree(self) -> OpenTree:
        if not self.postgres_env:
            return partial(snapshot, self.state / "log.db")
        from controller.ledger.postgres_tree import snapshot as postgres_snapshot  # noqa: PLC0415 - psycopg only then

        dsn = os.environ.get(self.postgres_env, "")
        if not dsn:
            raise ConfigError(f"{self.postgres_env} is not set", "Set it to the connection string of a read-only role")
        return partial(postgres_snapshot, dsn)


@dataclass
class Signing:
    """One run."""

    plan: SigningPlan
    signer: Signer
    book: CheckpointBook
    client: WitnessClient
    clock: SystemClock
    newest: SignedCheckpoint | None = None  # None: nothing is signed yet
    said: str = ""  # the last trouble that was logged
    shown_to: set[str] = field(default_factory=set)  # witnesses that have been asked in this run
    alarmed: bool = False  # in this run
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    using_book: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Until told to end; what was appended before that is signed."""
        tasks = [asyncio.create_task(self._feed(witness)) for witness in self.plan.witnesses]
        try:
            while not self.ending.is_set():
                await self.once()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.ending.wait(), EVERY_S)
            await self.once()
            await self.last_words()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def once(self) -> Ended:
        """One look at the log, signed if it has grown. What stands in the way is logged once, and tried again."""
        try:
            async with self.using_book:
                signed = await asyncio.to_thread(self.signer.round)
            if signed is not None:
                await self._announce(signed)
                await asyncio.to_thread(self._listen)
        except Misgrown as error:
            self._alarm(error)
            return Ended.ALARM
        except FlyballError as error:
            self._say(str(error))
            return Ended.UNUSABLE
        self.said = ""
        return Ended.WELL

    async def _announce(self, signed: SignedCheckpoint) -> None:
        async with self.grown:
            if self.newest is None or signed.size > self.newest.size:
                self.newest = signed
                self.grown.notify_all()

    def _listen(self) -> None:
        """For silence."""
        if not self.plan.heartbeat_seconds:
            return
        found = self.signer.silent_since(timedelta(seconds=HEARTBEATS_MISSED * self.plan.heartbeat_seconds))
        if found is None:
            if end_silence(self.plan.own):
                log.warning("the log speaks again")
        elif raise_alarm(self.plan.own, found):
            log.error("ALARM: %s. %s", found.what, found.way_out)

    def _alarm(self, error: Misgrown) -> None:
        self.alarmed = True
        raise_alarm(self.plan.own, error.alarm(self.clock.now()))
        self._say(f"ALARM: {error}")

    def _say(self, words: str) -> None:
        if words != self.said:
            self.said = words
            log.error("%s", words)

    # --- witnesses ---------------------------------------------------------------------------------------------------

    async def _feed(self, witness: WitnessKeys) -> None:
        """Submit whatever is newest, for ever. The first time also what it has cosigned before: it may know more."""
        known, failures = self._known(witness), 0
        while True:
            await self._something_newer_than(known if witness.name in self.shown_to else 0)
            cosigned = await self._submit(witness, known)
            failures = 0 if cosigned else failures + 1
            known = cosigned or known
            if failures:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    async def _something_newer_than(self, size: int) -> None:
        async with self.grown:
            await self.grown.wait_for(lambda: self.newest is not None and self.newest.size > size)

    def _known(self, witness: WitnessKeys) -> int:
        return next((one.size for one in self.book.heard() if one.name == witness.name), 0)

    async def _submit(self, witness: WitnessKeys, known: int) -> int:
        """The size that this witness has cosigned now. 0: it has not; why is logged, and kept for people to see."""
        signed = self.newest
        if signed is None:
            return 0
        try:
            post = partial(self.client.add_checkpoint, witness.url)
            lines = await submit(signed, known, witness, self.plan.tree, post)
        except FlyballError as error:
            await self._not_cosigned(witness, known, error)
            return 0
        self.shown_to.add(witness.name)
        async with self.using_book:
            self.book.cosigned(witness.name, signed.size, lines, self.clock.now())
        return signed.size

    async def _not_cosigned(self, witness: WitnessKeys, known: int, error: FlyballError) -> None:
        if isinstance(error, Misgrown):
            self._alarm(error)
        else:
            log.warning("%s", error)
        async with self.using_book:
            self.book.trouble(witness.name, known, str(error), self.clock.now())

    async def last_words(self) -> None:
        """Let the witnesses see the end of the log, if they answer soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await asyncio.gather(*(self._last_words_to(one) for one in self.plan.witnesses))

    async def _last_words_to(self, witness: WitnessKeys) -> None:
        known = self._known(witness)
        if witness.name not in self.shown_to or (self.newest is not None and self.newest.size > known):
            await self._submit(witness, known)


async def sign(plan: SigningPlan, *, once: bool = False, with_parent: bool = False) -> Ended:
    """Sign until SIGTERM or SIGINT, or just `once`. `with_parent`: also until standard input is closed."""
    try:
        plan.own.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    except OSError as error:
        raise Permanent(f"{plan.own} cannot be made: {error}", "Make its parent writable for the signer") from error
    with locked(plan.own / "lock", wait=False) as mine:
        if not mine:
            log.warning("another signer holds %s", plan.own)
            return Ended.HELD
        book, client, clock = CheckpointBook(plan.own / BOOK), WitnessClient(), SystemClock()
        try:
            signer = Signer(plan.tree, Keyring(plan.own), book, clock, plan.origin)
            run = Signing(plan, signer, book, client, clock)
            return await _once(run) if once else await _until_told(run, with_parent=with_parent)
        finally:
            await client.close()
            book.close()


async def _once(run: Signing) -> Ended:
    ended = await run.once()
    await run.last_words()
    return Ended.ALARM if run.alarmed else ended


async def _until_told(run: Signing, *, with_parent: bool) -> Ended:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.ending.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), partial(_parent_gone, run))
    log.info("signing %s, %d witnesses", run.plan.state, len(run.plan.witnesses))
    try:
        await run.run()
    finally:
        if with_parent:
            loop.remove_reader(sys.stdin.fileno())
    return Ended.WELL


def _parent_gone(run: Signing) -> None:
    """Standard input can be read only when nobody is at its other end any more: nothing is ever written to it."""
    run.ending.set()
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def arguments_of(plan: SigningPlan) -> list[str]:
    """The command line that says this plan."""
    words = ["--dir", str(plan.state), "--signer", str(plan.own), "--heartbeat", str(plan.heartbeat_seconds)]
    words += ["--origin", plan.origin] if plan.origin else []
    words += ["--postgres-env", plan.postgres_env] if plan.postgres_env else []
    for witness in plan.witnesses:
        words += ["--witness", witness.url, " ".join(str(key) for key in witness.keys)]
    return words


def plan_from(words: Sequence[str] | None) -> tuple[SigningPlan, bool]:
    """The plan, and whether to end with the parent. Raises FlyballError for a witness that cannot be."""
    options = argparse.ArgumentParser(prog="flyball-signer", description="Signs a log that it can only read.")
    options.add_argument("--dir", required=True, type=Path)
    options.add_argument("--signer", type=Path)
    options.add_argument("--origin", default="")
    options.add_argument("--postgres-env", default="")
    options.add_argument("--heartbeat", type=int, default=300)
    options.add_argument("--witness", nargs=2, action="append", default=[], metavar=("URL", "VKEY"))
    options.add_argument("--with-parent", action="store_true")
    found = options.parse_args(words)
    witnesses = tuple(WitnessKeys.parse(check_url(url), key) for url, key in found.witness)
    plan = SigningPlan(found.dir, found.origin, witnesses, found.heartbeat, found.signer, found.postgres_env)
    return plan, found.with_parent


def plan_of(state: Path, ledger: LedgerSection) -> SigningPlan:
    """As flyball.toml says. Raises FlyballError for a witness that cannot be."""
    witnesses = tuple(WitnessKeys.parse(check_url(one.url), one.key) for one in ledger.witnesses)
    return SigningPlan(state, ledger.origin, witnesses, ledger.heartbeat_seconds, postgres_env=ledger.postgres_env)


def publication_of(plan: SigningPlan) -> Publication:
    """What a controller, a page or an export may say about this log's signatures."""
    return Publication(plan.own, SystemClock(), tuple(key for one in plan.witnesses for key in one.keys))


def main(words: Sequence[str] | None = None) -> int:
    """`words=None`: `sys.argv`."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        plan, with_parent = plan_from(words)
        return asyncio.run(sign(plan, with_parent=with_parent))
    except FlyballError as error:
        log.error("%s", error)  # noqa: TRY400 - the message carries the way out
        return Ended.UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
