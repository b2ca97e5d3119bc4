"""Erasure, holds, retention and reading, over a real log, real keys and real files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, ZERO, HandClock, sample

from controller.commands.privacy import privacy as command
from controller.domain import events as e
from controller.domain.entry import Draft, Entry
from controller.domain.events.privacy import (
    PRIVACY,
    KeyDestroyed,
    LegalHoldLifted,
    LegalHoldSet,
    ReasoningRead,
    RetentionApplied,
    reading_stream,
    sealed_in,
)
from controller.domain.ids import DeliveryId, SessionId, StreamId, delivery_stream, session_stream
from controller.domain.sealed import Sealed
from controller.errors import ConfigError, FlyballError, Permanent, Refused, Unavailable
from controller.ledger.blobs import FileBlobs
from controller.ledger.key_store import scope_of
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Receipt, Rejected
from controller.privacy import Privacy, month_end
from controller.reading import Reading

NOVEMBER = "month/2026-11"
SHOP = DeliveryId("shop-1a2b3c")
YEAR = 370 * 86_400.0


class Killed(BaseException):
    """The process ends here."""


class Listed:
    """Standing by name: these people may do everything, nobody else anything."""

    digest = ZERO

    def __init__(self, *people: str) -> None:
        self.people = people

    def may_person(self, person: str, act: str, repository: str | None) -> bool:
        del act, repository
        return person in self.people


class House:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.killed_after_append = False
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False), now=self.clock.now)
        self.log = SqliteLog(folder / "log.db", self.clock, inline=True, after_append=self._after)
        self.privacy = self.rules(400)
        self.reading = Reading(log=self.log, seals=self.seals, standing=Listed("ann", "olga"))

    def _after(self, _: Receipt | Rejected) -> None:
        if self.killed_after_append:
            raise Killed

    def rules(self, days: int) -> Privacy:
        return Privacy(
            log=self.log,
            keys=self.seals.keys,
            names=self.seals,
            standing=Listed("ann", "olga"),
            clock=self.clock,
            reasoning_days=days,
        )

    async def session(self, number: int = 1, *, delivery: DeliveryId = SHOP, subject: str | None = None) -> Sealed:
        """A session's prompt in the log, sealed now."""
        prompt = await self.seals.seal("what the agent was told", subject=subject)
        stream = session_stream(SessionId(f"{delivery}/{number}"))
        await self.log.append([Draft(stream, sample(e.SessionStarted, prompt=prompt))], expect={stream: 0}, by=BY)
        return prompt

    async def task(self, person: str, delivery: DeliveryId = SHOP) -> Sealed:
        """A live delivery that a person asked for in words of their own."""
        who = self.seals.pseudonym(person)
        words = await self.seals.seal("sort the cart", subject=who)
        stream = delivery_stream(delivery)
        request = sample(e.TaskRequested, delivery=delivery, task=words, asked_by=who, root=delivery)
        await self.log.append([Draft(stream, request)], expect={stream: 0}, by=BY)
        return words

    async def end(self, delivery: DeliveryId = SHOP) -> None:
        stream = delivery_stream(delivery)
        await self.log.append([Draft(stream, e.Abandoned(reason="given up"))], expect={stream: 1}, by=BY)

    async def opens(self, sealed: Sealed) -> bool:
        try:
            await self.seals.open(sealed)
        except Permanent:
            return False
        return True

    async def said(self, stream: StreamId = PRIVACY) -> list[e.Event]:
        return [entry.event for entry in await self.log.read(stream) if isinstance(entry.event, e.Event)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.log.close()


def person_scope(house: House, person: str) -> str:
    return house.seals.pseudonym(person).replace(":", "/")


# --- erasing ----------------------------------------------------------------------------------------------------------


async def test_forgetting_a_person_takes_their_words_and_name_and_nobody_elses(house: House) -> None:
    hers, prompt = await house.task("ann"), await house.session()
    his = await house.task("bob", DeliveryId("shop-9f8e7d"))
    for name in ("ann", "bob"):
        house.seals.remember(name)
    await house.end()
    destroyed = await house.privacy.erase("olga", person_scope(house, "ann"), "she asked", event_id="m1")
    assert destroyed == (hers.key_id,)
    assert [await house.opens(one) for one in (hers, prompt, his)] == [False, True, True]
    assert house.seals.name(house.seals.pseudonym("ann")) is None
    assert house.seals.name(house.seals.pseudonym("bob")) == "bob"
    (said,) = await house.said()
    assert isinstance(said, KeyDestroyed)
    assert (said.key_id, said.why, said.by) == (hers.key_id, "erasure", house.seals.pseudonym("olga"))
    report = verify(house.folder / "log.db", house.folder / "blobs")
    assert report.whole, report.findings


async def test_the_log_says_it_before_the_key_is_gone_and_what_a_kill_left_is_finished(house: House) -> None:
    hers = await house.task("ann")
    await house.end()
    house.killed_after_append = True
    with pytest.raises(Killed):
        await house.privacy.erase("olga", person_scope(house, "ann"), "she asked", event_id="m1")
    house.killed_after_append = False
    assert [one.kind() for one in await house.said()] == ["KeyDestroyed"]
    assert await house.opens(hers)
    assert (await house.privacy.status()).unfinished == (hers.key_id,)
    await house.privacy.erase("olga", person_scope(house, "ann"), "she asked", event_id="m1")
    assert not await house.opens(hers)
    assert len(await house.said()) == 1
    assert (await house.privacy.status()).unfinished == ()


async def test_what_a_delivery_under_way_needs_is_not_erased_unless_somebody_insists(house: House) -> None:
    hers, scope = await house.task("ann"), person_scope(house, "ann")
    with pytest.raises(Refused, match="delivery/shop-1a2b3c still needs this text"):
        await house.privacy.erase("olga", scope, "she asked", event_id="m1")
    assert await house.opens(hers)
    await house.privacy.erase("olga", scope, "she asked", event_id="m1", although_live=True)
    assert not await house.opens(hers)


@pytest.mark.parametrize("subject", [None, "delivery/shop-1a2b3c"])
async def test_agents_text_is_kept_for_six_months_whoever_asks(house: House, subject: str | None) -> None:
    prompt = await house.session(subject=subject)
    scope = scope_of(prompt.key_id)
    house.clock.pass_(183 * 86_400)
    with pytest.raises(Refused, match="younger than 184 days") as refused:
        await house.privacy.erase("olga", scope, "why not", event_id="m1")
    assert "Article 19" in refused.value.way_out
    house.clock.pass_(10 * 86_400)  # a month counts from its end
    assert await house.privacy.erase("olga", scope, "why not", event_id="m2") == (prompt.key_id,)
    assert not await house.opens(prompt)


async def test_nothing_is_erased_by_strangers_nor_twice_nor_where_nothing_is(house: House) -> None:
    await house.task("ann")
    await house.end()
    scope = person_scope(house, "ann")
    with pytest.raises(Refused, match="mallory may not say what is kept"):
        await house.privacy.erase("mallory", scope, "", event_id="m1")
    await house.privacy.erase("olga", scope, "", event_id="m2")
    for where in (scope, "person/000000000000", "nonsense"):
        with pytest.raises(Refused, match="there is no key of"):
            await house.privacy.erase("olga", where, "", event_id="m3")
    assert len(await house.said()) == 1


# --- holds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", NOVEMBER, "delivery/shop-1a2b3c"])
async def test_a_legal_hold_beats_age_and_wish_until_it_is_lifted(house: House, scope: str) -> None:
    """That of a delivery also keeps the month that its sessions were sealed in."""
    prompt = await house.session()
    await house.privacy.hold("ann", scope, "a claim", event_id="h1")
    await house.privacy.hold("ann", scope, "a claim", event_id="h2")
    house.clock.pass_(3 * YEAR)
    with pytest.raises(Refused, match="is under legal hold"):
        await house.privacy.erase("olga", NOVEMBER, "old", event_id="m1")
    applied = await house.privacy.apply_retention("olga", event_id="m2")
    assert applied is not None
    assert (applied.destroyed, applied.held) == ((), (prompt.key_id,))
    assert await house.opens(prompt)
    await house.privacy.lift("ann", scope, "settled", event_id="h3")
    applied = await house.privacy.apply_retention("olga", event_id="m3")
    assert applied is not None
    assert applied.destroyed == (prompt.key_id,)
    assert not await house.opens(prompt)
    kinds = [type(one) for one in await house.said()]
    assert kinds == [LegalHoldSet, RetentionApplied, LegalHoldLifted, KeyDestroyed, RetentionApplied]


async def test_a_hold_set_while_somebody_erases_is_seen(house: House) -> None:
    """Both decide on the same version of one stream: whoever comes second decides anew."""
    hers, scope = await house.task("ann"), person_scope(house, "ann")
    await house.end()
    other, begun = House(house.folder), asyncio.Event()
    read, first = house.log.read, True

    async def slow(stream: StreamId, after: int = 0) -> list[Entry]:
        nonlocal first
        entries = await read(stream, after)
        if stream == PRIVACY and first:
            first = False
            await other.privacy.hold("ann", scope, "a claim", event_id="h1")
            begun.set()
        return entries

    house.log.read = slow  # type: ignore[method-assign]
    with pytest.raises(Refused, match="is under legal hold"):
        await house.privacy.erase("olga", scope, "she asked", event_id="m1")
    assert begun.is_set()
    assert await house.opens(hers)
    other.log.close()


async def test_only_what_is_held_is_released(house: House) -> None:
    with pytest.raises(Refused, match="'all' is under no legal hold"):
        await house.privacy.lift("ann", "all", "", event_id="h1")
    with pytest.raises(Refused, match="'everything' is no scope"):
        await house.privacy.hold("ann", "everything", "", event_id="h2")


# --- retention --------------------------------------------------------------------------------------------------------


async def test_a_month_goes_when_its_last_day_is_old_enough_and_later_months_stay(house: House) -> None:
    old = await house.session(1)
    house.clock.pass_(40 * 86_400)
    new = await house.session(2)
    end = month_end(NOVEMBER)
    assert end == datetime(2026, 12, 1, tzinfo=UTC)
    house.clock.at = end + timedelta(days=400, seconds=-1)
    assert await house.privacy.apply_retention("olga", event_id="m1") is None
    house.clock.at = end + timedelta(days=400)
    applied = await house.privacy.apply_retention("olga", event_id="m2")
    assert applied is not None
    assert (applied.days, applied.destroyed, applied.held) == (400, (old.key_id,), ())
    assert [await house.opens(one) for one in (old, new)] == [False, True]
    assert await house.privacy.apply_retention("olga", event_id="m3") is None
    assert [one.kind() for one in await house.said()] == ["KeyDestroyed", "RetentionApplied"]


async def test_a_delivery_with_a_key_of_its_own_ages_from_its_last_entry(house: House) -> None:
    prompt = await house.session(1, subject="delivery/shop-1a2b3c")
    house.clock.pass_(300 * 86_400)
    later = await house.session(2, subject="delivery/shop-1a2b3c")
    assert later.key_id == prompt.key_id
    house.clock.pass_(399 * 86_400)
    assert await house.privacy.apply_retention("olga", event_id="m1") is None
    house.clock.pass_(2 * 86_400)
    applied = await house.privacy.apply_retention("olga", event_id="m2")
    assert applied is not None
    assert applied.destroyed == (prompt.key_id,)


async def test_peoples_own_words_do_not_age_out_by_themselves(house: House) -> None:
    hers = await house.task("ann")
    house.clock.pass_(3 * YEAR)
    assert await house.privacy.apply_retention("olga", event_id="m1") is None
    assert await house.opens(hers)


def test_a_retention_below_six_months_is_refused_by_name(house: House) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.reasoning_days is 183, the least is 184") as refused:
        house.rules(183)
    assert "Article 19" in refused.value.way_out


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_whoever_reads_sealed_text_stands_in_the_log_before_they_see_it(house: House) -> None:
    prompt = await house.session()
    assert await house.reading.read_sealed("ann", prompt, 0) == "what the agent was told"
    ann = house.seals.pseudonym("ann")
    (entry,) = await house.log.read(reading_stream(ann))
    assert entry.principal == ann
    assert entry.event == ReasoningRead(by=ann, entry=0, key_id=prompt.key_id, digest=prompt.digest)
    assert b"agent was told" not in entry.leaf


async def test_text_is_not_shown_when_the_log_cannot_say_that_it_was(house: House) -> None:
    prompt = await house.session()
    house.log.close()
    with pytest.raises(Unavailable, match="is closed"):
        await house.reading.read_sealed("ann", prompt, 0)


async def test_what_cannot_be_opened_or_may_not_be_read_is_not_said_to_have_been_read(house: House) -> None:
    prompt = await house.session()
    with pytest.raises(Refused, match="mallory may not read"):
        await house.reading.read_sealed("mallory", prompt, 0)
    with pytest.raises(Refused):
        house.reading.seals_for("mallory", [])
    house.seals.keys.destroy(prompt.key_id)
    with pytest.raises(Permanent, match="has been destroyed"):
        await house.reading.read_sealed("ann", prompt, 0)
    assert (await house.log.head()).size == 1


async def test_whatever_draws_entries_reads_through_a_readers_seals_and_each_text_once(house: House) -> None:
    await house.session(1)
    words = await house.task("bob")
    entries = [entry async for entry in house.log.scan()]
    seals = house.reading.seals_for("olga", entries)
    for _ in range(2):
        for entry in entries:
            for sealed in sealed_in(entry.event):
                if sealed.key_id == words.key_id:
                    assert await seals.open(sealed) == "sort the cart"
    (read,) = await house.said(reading_stream(house.seals.pseudonym("olga")))
    assert isinstance(read, ReasoningRead)
    assert (read.entry, read.digest) == (1, words.digest)
    with pytest.raises(FlyballError, match="a reader seals nothing"):
        await seals.seal("x")


async def test_two_windows_of_one_reader_at_once_are_both_noted(house: House) -> None:
    prompts = [await house.session(number) for number in range(1, 6)]
    await asyncio.gather(*(house.reading.read_sealed("ann", one, n) for n, one in enumerate(prompts)))
    read = await house.said(reading_stream(house.seals.pseudonym("ann")))
    assert sorted(one.entry or 0 for one in read if isinstance(one, ReasoningRead)) == [0, 1, 2, 3, 4]


# --- at the terminal --------------------------------------------------------------------------------------------------


def flyball(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(command, [*arguments, "--repo", str(root)])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a log in which somebody at this terminal has asked for something."""
    (tmp_path / "flyball.toml").write_text('[repository]\nname = "shop"\n')
    (tmp_path / ".flyball").mkdir()
    state = House(tmp_path / ".flyball")
    asyncio.run(state.task("ann"))
    asyncio.run(state.end())
    state.log.close()
    return tmp_path


def test_at_the_terminal_a_person_is_held_released_and_forgotten(root: Path) -> None:
    assert flyball(root, "hold", "--person", "ann", "--because", "a claim").output.startswith("held: person/")
    no = flyball(root, "erase", "--person", "ann", "--yes")
    assert no.exit_code == 1
    assert "is under legal hold" in no.output
    assert flyball(root, "release-hold", "--person", "ann").exit_code == 0
    assert flyball(root, "erase", "--person", "ann", "--yes").output.startswith("destroyed: person/")
    assert flyball(root, "retention").output == "nothing is older than 400 days\n"
    shown = json.loads(flyball(root, "status", "--json").output)
    assert shown == {"days": 400, "holds": [], "keys": [], "unfinished": []}


def test_at_the_terminal_nothing_is_destroyed_by_a_slip(root: Path) -> None:
    asked = CliRunner().invoke(command, ["erase", "--person", "ann", "--repo", str(root)], input="n\n")
    assert "Nobody can undo it" in asked.output
    assert asked.exit_code == 1
    assert "person/" in flyball(root, "status").output
    neither = flyball(root, "erase", "--yes")
    assert neither.exit_code == 1
    assert "name one thing" in neither.output


def test_the_folder_of_a_short_retention_is_refused_where_it_is_set(root: Path) -> None:
    (root / "flyball.toml").write_text('[repository]\nname = "shop"\n[privacy]\nreasoning_days = 30\n')
    no = flyball(root, "retention")
    assert no.exit_code == 1
    assert "privacy.reasoning_days is 30" in no.output


def test_ids_of_keys_name_their_scope() -> None:
    assert scope_of("month/2026-11:1a2b3c4d") == NOVEMBER
    assert scope_of("local:0123456789abcdef") == "local"
    assert month_end("month/2026-12") == datetime(2027, 1, 1, tzinfo=UTC)
    assert month_end("person/0123456789ab") is None
