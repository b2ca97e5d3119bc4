"""How a release was judged, as a reviewer has it before him: packet, files and terminal say what the log says."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

from judged_kit import DELIVERY, TRACES, Made, made_in, signed

from controller.canary.plain_words import fraction, power
from controller.cli import main
from controller.ledger.blobs import FileBlobs


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, str]:
    made = made_in(tmp_path_factory.mktemp("built") / "state", 40, 0.06)
    return made, signed(made)


@pytest.fixture(scope="module")
def packed(built: tuple[Made, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "packet"
    asks("audit", "packet", DELIVERY, str(folder), "--dir", str(built[0].state))
    return folder


@pytest.fixture
def made(built: tuple[Made, str]) -> Made:
    return built[0]


@pytest.fixture
def state(made: Made, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copytree(made.state, tmp_path / "state"))


def asks(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


class Words(HTMLParser):
    """A page as text, and which elements it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture
def page(packed: Path) -> Words:
    whole = (packed / "index.html").read_text()
    return Words(whole[whole.index("<h2>How it was judged") : whole.index("<h2>What people did")])


def test_page_says_the_verdict_with_the_numbers_of_the_log(page: Words, made: Made) -> None:
    verdict = made.verdict
    assert verdict.first_crossing_window is not None
    assert verdict.spent is not None
    for words in (
        verdict.sentence,
        f"E={power(verdict.log_e_micro)}, line {power(verdict.threshold_micro)}",
        f"first crossed in window {verdict.first_crossing_window}, counted from 0, of {verdict.windows}",
        f"{fraction(verdict.canary.errors, verdict.canary.requests)} failed",
        f"{fraction(verdict.baseline.errors, verdict.baseline.requests)} failed",
        f"at least {verdict.ratio.lower_milli / 1000:.3g} times the baseline's error rate",
        f"{verdict.spent.failed_requests} failed requests beyond the usual",
        f"{verdict.phi.milli / 1000:g} times the noise of independent requests, assumed",
        made.policy,
        *verdict.caveats,
    ):
        assert words in page.text, words


def test_page_begins_with_a_sentence_for_whoever_knows_nothing_of_e(page: Words, made: Made) -> None:
    canary, baseline = made.verdict.canary, made.verdict.baseline
    assert (
        f"The canary failed {canary.errors} of {canary.requests} requests, "
        f"the confirmed release beside it {baseline.errors:,} of {baseline.requests:,}. "
        "A canary no worse than tolerated gets this far in at most one of 1,000 rollouts."
    ) in page.text


def test_page_shows_every_test_with_its_counts_weight_and_evidence(page: Words, made: Made) -> None:
    for test in made.verdict.evidence:
        for words in (
            fraction(test.canary_bad, test.canary_total),
            fraction(test.baseline_bad, test.baseline_total),
            f"{test.weight_ppm / 10_000:.3g} %",
            power(test.log_e_micro),
        ):
            assert words in page.text, words


def test_page_names_traces_excluded_data_rivals_blame_and_recovery(page: Words) -> None:
    for words in (
        *TRACES.bad,
        *TRACES.good,
        "3 late, 41 of another version",
        "shared incident ruled out the baseline fails as before",
        "shop-8a1c44 stands out: its own file stands on every failing stack",
        "99.8 %",
        "only its documents changed",
        "all traffic on release 1, its health verified 3 times",
        "recovered: it is over: 0 of 385 requests were bad since traffic came back",
        "it agrees exactly in all",
    ):
        assert words in page.text, words


def test_names_from_outside_are_text_on_the_page(page: Words) -> None:
    assert "<b>other users</b>" in page.text
    assert "shop/<cart>.py" in page.text
    assert not {"b", "cart", "script"} & set(page.tags)


def test_page_has_three_pictures_and_calls_them_views(page: Words) -> None:
    assert page.tags.count("svg") == page.tags.count("figure") == 3
    assert "They show; the counts prove." in page.text


def test_pictures_and_path_lie_in_the_packet_as_files_that_the_manifest_vouches_for(
    packed: Path, built: tuple[Made, str]
) -> None:
    made, key = built
    names = {f"log#{made.decided}-{name}" for name in ("evidence.svg", "errors.svg", "latency.svg", "path.csv")}
    assert {one.name for one in (packed / "evidence").iterdir()} == names
    assert {f"evidence/{name}" for name in names} <= json.loads((packed / "manifest.json").read_text())["files"].keys()
    for one in (packed / "evidence").glob("*.svg"):
        ET.fromstring(one.read_text())  # noqa: S314 - written by the code under test
    said = verified(packed, key)
    assert (said.returncode, "Nothing is wrong" in said.stdout) == (0, True), said.stdout
    assert "blobs are what the entries name by digest" in said.stdout


def verified(folder: Path, key: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), "--key", key]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_picture_that_was_touched_up_is_found(packed: Path, built: tuple[Made, str], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    picture = next((copy / "evidence").glob("*-evidence.svg"))
    picture.write_text(picture.read_text().replace("10³", "10²"))
    said = verified(copy, built[1])
    assert said.returncode == 1
    assert "ALTERED: evidence/log#" in said.stdout


def test_path_file_has_every_window_that_was_judged_and_ends_at_the_verdict(packed: Path, made: Made) -> None:
    with (packed / "evidence" / f"log#{made.decided}-path.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.windows) == made.verdict.windows
    for row, window in zip(rows, made.windows, strict=True):
        assert int(row["start_ms"]) == window.start_ms
        assert (int(row["canary_errors"]), int(row["canary_requests"])) == (
            window.canary.errors,
            window.canary.requests,
        )
    assert int(rows[-1]["log_e_micro"]) == made.verdict.log_e_micro
    assert [row["crossed"] for row in rows].index("1") == made.verdict.first_crossing_window


def test_parameters_of_the_judge_lie_in_the_packet_under_their_digest(packed: Path, made: Made) -> None:
    held = packed / "blobs" / made.policy.removeprefix("sha256:")
    assert json.loads(held.read_text())["alpha_ppm"] == 1_000


def test_without_a_blob_the_page_says_that_nothing_can_be_drawn(state: Path, made: Made, tmp_path: Path) -> None:
    FileBlobs(state / "blobs").path_of(made.policy).unlink()
    asks("audit", "packet", DELIVERY, str(tmp_path / "packet"), "--dir", str(state))
    whole = (tmp_path / "packet" / "index.html").read_text()
    assert "Nothing is drawn: " in whole
    assert "not possible here: " in whole
    assert made.verdict.sentence.split(";", maxsplit=1)[0] in whole  # the recorded numbers are there all the same
    assert not (tmp_path / "packet" / "evidence").exists()


def test_replay_draws_the_very_files_of_the_packet(packed: Path, made: Made, tmp_path: Path) -> None:
    said = asks("replay", DELIVERY, "--svg", str(tmp_path / "drawn"), "--dir", str(made.state))
    assert "agrees exactly" in said.stdout
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert len(drawn) == 3
    for one in drawn:
        assert one.read_bytes() == (packed / "evidence" / one.name).read_bytes()
        assert str(one) in said.stdout


def test_replay_writes_nothing_over(made: Made, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / f"log#{made.decided}-errors.svg").write_text("mine")
    said = asks("replay", DELIVERY, "--svg", str(drawn), "--dir", str(made.state), code=1)
    assert f"log#{made.decided}-errors.svg exists already" in said.output
    assert "Name another folder" in said.output
    assert [one.read_text() for one in drawn.iterdir()] == ["mine"]


def test_replay_draws_no_recovery(made: Made, tmp_path: Path) -> None:
    said = asks("replay", str(made.decided), "--json", "--svg", str(tmp_path / "d"), "--dir", str(made.state))
    assert len(json.loads(said.stdout)["files"]) == 3
    said = asks("replay", "0", "--svg", str(tmp_path / "other"), "--dir", str(made.state), code=1)
    assert "holds no computed verdict" in said.output
    assert not (tmp_path / "other").exists()


def test_folder_that_cannot_be_written_is_named(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = asks("replay", DELIVERY, "--svg", str(tmp_path / "file" / "in"), "--dir", str(made.state), code=1)
    assert "cannot be written" in said.output
    assert "Name a folder that you may write" in said.output


def test_help_tells_of_the_pictures() -> None:
    said = " ".join(asks("replay", "--help").stdout.split())
    assert "--svg" in said
    assert "evidence against its line, error rates, latency" in said


def test_terminal_tells_what_stands_behind_a_roll_back(made: Made) -> None:
    said = asks("show", DELIVERY, "--dir", str(made.state)).stdout
    assert made.verdict.spent is not None
    for words in (
        f"cost: {made.verdict.spent.failed_requests} failed requests beyond the usual",
        f"how much worse: at least {made.verdict.ratio.lower_milli / 1000:.3g} times",
        "not counted: 3 late, 41 of another version",
        f"traces: failed on the canary: {TRACES.bad[1]}, {TRACES.bad[0]}; served by the baseline: {TRACES.good[0]}",
        "other explanation: shared incident ruled out: the baseline fails as before",
        "other explanation: <b>other users</b> ruled out",
        "whose change: shop-8a1c44 stands out",
        'E=10^3.2 of 10^2 against "it goes on", phi 2',
    ):
        assert words in said, words


def test_release_of_one_window_without_errors_has_its_pictures_too(tmp_path: Path) -> None:
    made = made_in(tmp_path / "state", 1, 0.0)
    signed(made)
    asks("audit", "packet", DELIVERY, str(tmp_path / "packet"), "--dir", str(made.state))
    whole = (tmp_path / "packet" / "index.html").read_text()
    assert whole.count("<figure>") == 3
    assert "not crossed in 1 window<" in whole
