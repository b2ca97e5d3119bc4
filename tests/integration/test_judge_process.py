"""The judge as a real process beside a real edge: what it can reach, and what happens when it dies, hangs or lies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import FIXTURES, PYTHON, SERVICE, WELL, EdgeKit, now_ms, until

from controller.adapters.blobs_read import ReadBlobs
from controller.adapters.judge_process import HOME, MOST_PIECES, JudgeProcess, judge_command
from controller.canary.boundaries import no_boundaries
from controller.domain.events import CanaryReady, Label
from controller.domain.ids import Commit
from controller.domain.verdict import JudgeConfig, Outcome, Phi, PhiSource
from controller.errors import Permanent, Unavailable
from controller.ports import Contradicted, LookRequest, SealedCounts, Seen

WIDTH_MS = 1_000
PHI = Phi(milli=2_000, source=PhiSource.PRIOR, instances=1, minutes=0)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
Judges = Callable[..., JudgeProcess]


class Stage:
    """Judges of a service on the edge in a folder."""

    def __init__(self, folder: Path, edge: Path) -> None:
        self.folder = folder
        self.edge = edge
        self.blobs = folder / "blobs"
        self.blobs.mkdir()
        self.version = Commit("0" * 40)
        self.from_ms = now_ms() // WIDTH_MS * WIDTH_MS - 5 * WIDTH_MS
        self.judges: list[JudgeProcess] = []

    def judge(self, kind: str = "", *more: str, within_s: float = 20.0) -> JudgeProcess:
        """`kind`: of tests/fixtures/judges.py; empty: the real one."""
        command = judge_command(self.edge, self.blobs, Label.LOAD_TEST)
        if kind:
            words = command[command.index("controller.service.judging") + 1 :]
            command = (PYTHON, "-P", "-B", str(FIXTURES / "judges.py"), kind, *more, "--", *words)
        self.judges.append(JudgeProcess(command, ReadBlobs(self.blobs), Label.LOAD_TEST, within_s=within_s))
        return self.judges[-1]

    def request(self, segments: tuple[SealedCounts, ...] = ()) -> LookRequest:
        return LookRequest(
            service=SERVICE,
            canary=Commit("2" * 40),
            baseline=self.version,
            from_ms=self.from_ms,
            width_ms=WIDTH_MS,
            config=JudgeConfig(),
            ready=CanaryReady(release=2, instances=1, boundaries=no_boundaries(), phi=PHI),
            segments=segments,
            weight_percent=5,
            step_start_ms=self.from_ms,
        )

    async def down(self) -> None:
        for judge in self.judges:
            await judge.close()


@pytest.fixture(scope="module")
def one_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An edge for all who do nothing to it, which has served nobody yet."""
    kit = EdgeKit(tmp_path_factory.mktemp("shared"))
    asyncio.run(kit.up())
    yield kit.folder
    asyncio.run(kit.down())


@pytest.fixture
async def stage(one_edge: Path, tmp_path: Path) -> AsyncIterator[Stage]:
    found = Stage(tmp_path, one_edge)
    yield found
    await found.down()


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[EdgeKit]:
    """An edge of its own."""
    found = EdgeKit(tmp_path / "own")
    await found.up()
    yield found
    await found.down()


def pid_of(judge: JudgeProcess) -> int:
    assert judge._child is not None
    return judge._child.process.pid


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def looks_again(judge: JudgeProcess, request: LookRequest) -> Seen:
    """Asked as the loop asks: again after each time that it could not."""

    async def look() -> Seen | None:
        try:
            return await judge.look(request)
        except Unavailable:
            return None

    found: Seen = await until(look, "the judge looks again")
    return found


async def test_judge_reads_what_users_met_and_says_so(kit: EdgeKit, tmp_path: Path) -> None:
    stage = Stage(tmp_path, kit.folder)
    stage.version = kit.commit(WELL)
    await kit.release(1, stage.version)
    await kit.serving()
    assert (await kit.ask(5))[stage.version] == 5
    judge = stage.judge()

    async def counted() -> Seen | None:
        seen = await judge.look(stage.request())
        return seen if sum(window.baseline.requests for window in seen.windows) >= 5 else None

    seen = await until(counted, "five requests are counted")
    await stage.down()
    assert seen.verdict.outcome is Outcome.HOLD
    assert seen.source == "the proxy's status codes and latencies"


@LINUX
async def test_judge_has_nothing_open_but_pipes_and_nothing_told_but_where_to_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret")
    monkeypatch.setenv("FLYBALL_DSN", "a-secret")
    judge = stage.judge()
    await judge.look(stage.request())
    process = Path("/proc") / str(pid_of(judge))
    told = dict(line.split("=", 1) for line in (process / "environ").read_text().split("\0") if line)
    assert told == {"PYTHONPATH": HOME, "LC_ALL": "C.UTF-8"}
    opened = {name: str(name.readlink()) for name in (process / "fd").iterdir()}
    files = {name: target for name, target in opened.items() if target.startswith("/")}
    assert not [target for target in files.values() if target.startswith(str(stage.folder))]
    for name in files:
        flags = (process / "fdinfo" / name.name).read_text().split("flags:")[1].split()[0]
        assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY, opened[name]
    kinds = {target.partition(":")[0] for target in opened.values() if not target.startswith("/")}
    assert kinds <= {"pipe", "socket", "anon_inode"}


async def test_judge_knows_no_log_no_gate_no_key_and_no_hands(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="flyball.judge")
    judge = stage.judge("lists")
    await judge.look(stage.request())
    await judge.close()
    said = "".join(record.getMessage().partition("says: ")[2] + "\n" for record in caplog.records)
    assert "controller.canary.court" in said
    house = {line for line in said.split() if line.startswith(("controller", "rbac", "tools"))}
    strangers = ("controller.ledger", "controller.gate", "controller.loop", "controller.provenance", "rbac", "tools")
    assert not [name for name in house if name.startswith(strangers)]
    assert not {"controller.adapters.edge_effects", "controller.adapters.git", "controller.adapters.sandbox"} & house
    assert not {"cryptography", "pygit2", "psycopg", "sqlite3", "langgraph"} & set(said.split())


async def test_judge_that_would_write_a_file_is_refused_by_the_kernel(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    judge, target = stage.judge("writes", str(stage.folder / "target")), stage.folder / "target"
    await judge.look(stage.request())
    await judge.close()
    assert "refused: File too large" in caplog.text
    assert target.read_bytes() == b""


async def test_judge_needs_only_the_token_that_looks(stage: Stage) -> None:
    token = stage.edge / "token"
    token.rename(stage.folder / "away")
    try:
        assert (await stage.judge().look(stage.request())).windows
    finally:
        (stage.folder / "away").rename(token)


async def test_killed_judge_only_costs_time(stage: Stage) -> None:
    judge = stage.judge()
    await judge.look(stage.request())
    first = pid_of(judge)
    os.kill(first, signal.SIGKILL)
    assert (await looks_again(judge, stage.request())).windows
    assert pid_of(judge) != first


async def test_judge_that_dies_while_it_looks_leaves_its_last_words_and_is_started_later_each_time(
    stage: Stage,
) -> None:
    judge = stage.judge("dies")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"ended: exit code 7; it said last: I saw \d+ windows"):
            await judge.look(stage.request())
    with pytest.raises(Unavailable, match=r"has failed 2 times and is started again in 0\.\d s"):
        await judge.look(stage.request())


@LINUX
async def test_hanging_judge_is_timed_out_ended_and_replaced(stage: Stage) -> None:
    judge = stage.judge()
    await judge.look(stage.request())
    hanging, judge._within_s = pid_of(judge), 0.3
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(Unavailable, match=r"has not answered within 0\.3 s"):
        await judge.look(stage.request())
    judge._within_s = 20.0
    assert (await looks_again(judge, stage.request())).windows
    assert not alive(hanging)


@LINUX
async def test_step_that_gives_up_leaves_no_answer_behind_for_the_next_one(stage: Stage) -> None:
    judge = stage.judge()
    await judge.look(stage.request())
    slow = pid_of(judge)
    os.kill(slow, signal.SIGSTOP)
    step = asyncio.create_task(judge.look(stage.request()))
    await until(_has_asked(judge), "the question is under way")
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    later = stage.request().model_copy(update={"from_ms": stage.from_ms + WIDTH_MS})
    seen = await looks_again(judge, later)
    assert (seen.windows[0].start_ms, pid_of(judge) != slow) == (later.from_ms, True)


def _has_asked(judge: JudgeProcess) -> Callable[[], object]:
    async def look() -> bool:
        return judge._turn.locked()

    return look


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("promotes", "the judge says promote by canary/promoted at .*, and its own windows give hold"),
        ("rounds", "the judge says hold by canary/more-requests at 1, and its own windows give .* at 0"),
        ("skips", "the judge's window 0 is .*, and was asked for from"),
    ],
)
async def test_lying_judge_is_refused_and_named(stage: Stage, kind: str, words: str) -> None:
    judge = stage.judge(kind)
    with pytest.raises(Contradicted, match=words):
        await judge.look(stage.request())
    assert judge._child is None  # nobody asks that one again


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("floods", "answer exceeds 16777216 bytes"),
        ("mumbles", "malformed at number"),
        ("misnumbers", "gave no answer to question 1"),
        ("mislabels", "calls its counts simulated, and was told load_test"),
    ],
)
async def test_answer_that_is_none_is_refused(stage: Stage, kind: str, words: str) -> None:
    judge = stage.judge(kind)
    with pytest.raises(Unavailable, match=words):
        await judge.look(stage.request())
    assert judge._child is None


async def test_second_answer_to_one_question_is_not_taken_for_the_next_ones(stage: Stage) -> None:
    judge = stage.judge("repeats")
    await judge.look(stage.request())
    with pytest.raises(Unavailable, match="gave no answer to question 2"):
        await judge.look(stage.request())


async def test_word_for_people_is_never_taken_for_an_answer(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    judge = stage.judge("prints")
    assert (await judge.look(stage.request())).windows
    await judge.close()
    assert "this is no answer" in caplog.text


async def test_judge_that_chatters_fills_no_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    judge = stage.judge("chatters")
    assert (await judge.look(stage.request())).windows
    await judge.close()
    assert 1 < len(caplog.records) <= MOST_PIECES


async def test_question_too_large_to_ask_is_refused_before_it_is(stage: Stage) -> None:
    segment = SealedCounts.model_validate({"counts": "sha256:" + "0" * 64, "weight_percent": 5, "step_start_ms": 0})
    with pytest.raises(Permanent, match=r"a look over 60000 segments exceeds 4194304 bytes"):
        await stage.judge().look(stage.request((segment,) * 60_000))


@LINUX
async def test_judge_ends_with_whoever_asked_it(stage: Stage) -> None:
    judge = stage.judge()
    await judge.look(stage.request())
    pid = pid_of(judge)
    await judge.close()
    assert not alive(pid)
    assert not judge._keepers


async def test_edge_that_is_down_is_said_by_a_judge_that_lives_on(kit: EdgeKit, tmp_path: Path) -> None:
    stage = Stage(tmp_path, kit.folder)
    judge = stage.judge()
    await judge.look(stage.request())
    pid = pid_of(judge)
    await kit.kill()
    with pytest.raises(Unavailable, match=r"the edge in .* did not answer /windows"):
        await judge.look(stage.request())
    assert pid_of(judge) == pid
    await kit.up()
    assert (await looks_again(judge, stage.request())).windows
    await stage.down()
