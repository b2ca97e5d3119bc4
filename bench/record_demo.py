"""Records `flyball demo` as it was printed: docs/demo.txt (plain) and docs/demo.svg (the part of task 2, in colour).

.venv/bin/python bench/record_demo.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = "2. A change that passes", "3. An agent that tries"
WIDTH = 160


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="flyball-demo-") as folder:
        command = [str(ROOT / "flyball"), "demo", "--fresh", "--color", "--dir", f"{folder}/state"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    told = done.stdout.replace(f"{folder}/state", "~/.flyball-demo").replace(folder, "~")
    plain = Text.from_ansi(told).plain
    (ROOT / "docs" / "demo.txt").write_text("\n".join(line.rstrip() for line in plain.splitlines()) + "\n")
    lines = told.splitlines()
    begin = next(i for i, line in enumerate(lines) if FIRST in line)
    end = next(i for i, line in enumerate(lines) if LAST in line)
    console = Console(record=True, width=WIDTH, file=sys.stderr, force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join(lines[begin : end - 1])), soft_wrap=True)
    console.save_svg(str(ROOT / "docs" / "demo.svg"), title="flyball demo, task 2")


if __name__ == "__main__":
    main()
