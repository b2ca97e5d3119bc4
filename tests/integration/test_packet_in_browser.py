"""A packet's page in a real browser: what a person with a phone, or in the dark, has before him.

The page itself may run no script. So another page, which may, holds it in a frame as wide as a phone and measures what
the browser has laid out.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

from judged_kit import DELIVERY, made_in, signed

from controller.cli import main

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
SECONDS = 120
DARK = ("--blink-settings=preferredColorScheme=0",)

MEASURING = """<!doctype html><body style="margin:0">
<iframe id="page" src="index.html" style="width:{width}px;height:900px;border:0"></iframe><pre id="found"></pre>
<script>
document.getElementById("page").onload = (event) => {{
  const page = event.target.contentDocument, view = event.target.contentWindow;
  page.querySelectorAll("details").forEach((one) => one.open = true);
  const box = (one) => {{ const r = one.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }};
  const charts = [...page.querySelectorAll("svg.flyball-chart")].map((svg) => ({{
    box: box(svg),
    heading: svg.querySelector("title").textContent,
    color: view.getComputedStyle(svg).color,
    paper: view.getComputedStyle(svg.querySelector(".paper")).fill,
    texts: [...svg.querySelectorAll("text")].map((one) => [one.textContent, ...box(one)]),
  }}));
  const root = page.documentElement;
  document.getElementById("found").textContent =
    JSON.stringify({{ width: root.clientWidth, scroll: root.scrollWidth, charts }});
}};
</script>"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = made_in(tmp_path_factory.mktemp("built") / "state", 40, 0.06)
    signed(made)
    folder = tmp_path_factory.mktemp("packed") / "packet"
    done = CliRunner().invoke(main, ["audit", "packet", DELIVERY, str(folder), "--dir", str(made.state)])
    assert done.exit_code == 0, done.output
    return folder


def browsed(folder: Path, *arguments: str) -> str:
    assert BROWSER is not None
    profile = folder.parent / "profile"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def measured(folder: Path, width: int, *more: str) -> Any:
    """What the browser made of the page in a frame of that width."""
    frame = folder.parent / folder.name / f"measuring-{width}.html"
    frame.write_text(MEASURING.format(width=width))
    try:
        arguments = ("--allow-file-access-from-files", "--virtual-time-budget=20000", *more)
        dom = browsed(folder, *arguments, "--dump-dom", frame.as_uri())
    finally:
        frame.unlink()
    found = re.search(r'<pre id="found">(.+?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_screen_with_every_detail_open(packed: Path, width: int) -> None:
    found = measured(packed, width)
    assert found["scroll"] <= found["width"] <= width
    assert len(found["charts"]) == 3
    for chart in found["charts"]:
        assert 0 <= chart["box"][0] < chart["box"][2] <= found["width"]


@pytest.mark.parametrize("width", [320, 1200])
def test_words_in_a_picture_lie_inside_it_and_on_no_other_word(packed: Path, width: int) -> None:
    for chart in measured(packed, width)["charts"]:
        left, top, right, bottom = chart["box"]
        texts = chart["texts"]
        assert len(texts) > 8
        for n, (words, *box) in enumerate(texts):
            assert left <= box[0] + 0.5, words
            assert box[2] - 0.5 <= right, words
            assert top <= box[1] + 0.5, words
            assert box[3] - 0.5 <= bottom, words
            for other, *beside in texts[n + 1 :]:
                assert not overlapping(box, beside), f"{chart['heading']}: {words!r} lies on {other!r}"


def overlapping(one: list[float], other: list[float]) -> bool:
    """By more than what letters have above and below them."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 1 and down > 0.35 * min(one[3] - one[1], other[3] - other[1])


def test_pictures_follow_a_dark_screen(packed: Path) -> None:
    light, dark = measured(packed, 390)["charts"], measured(packed, 390, *DARK)["charts"]
    for chart, darker in zip(light, dark, strict=True):
        assert brightness(chart["paper"]) > brightness(chart["color"]) + 150
        assert brightness(darker["color"]) > brightness(darker["paper"]) + 150


def brightness(color: str) -> float:
    """0 to 255, of "rgb(r, g, b)"."""
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3]) / 3


def test_page_has_its_pictures_without_any_script(packed: Path) -> None:
    dom = browsed(packed, "--dump-dom", (packed / "index.html").as_uri())
    assert len(re.findall(r"<figure>", dom)) == len(re.findall(r"<svg ", dom)) == 3
    assert "<script" not in dom


def test_a_picture_alone_is_a_file_that_a_browser_draws(packed: Path, tmp_path: Path) -> None:
    picture = next((packed / "evidence").glob("*-evidence.svg"))
    alone = Path(shutil.copyfile(picture, tmp_path / "alone.svg"))  # a "#" in an address means something else
    shot = tmp_path / "shot.png"
    browsed(packed, f"--screenshot={shot}", "--window-size=600,500", alone.as_uri())
    assert shot.stat().st_size > 5_000
    assert "crossed in window" in browsed(packed, "--dump-dom", alone.as_uri())
