"""`python build.py OUT_DIR`: what runs in production, and nothing else.

Every source file must compile; it is then copied byte for byte. The output depends on the sources alone: no
timestamps inside, no byte code, no network.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "shop"


def build(out: Path) -> list[Path]:
    """The files written below `out`, sorted. Refuses a folder that holds anything already."""
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty: name a new folder")
    written = []
    for source in sorted(PACKAGE.rglob("*.py")):
        text = source.read_bytes()
        compile(text, str(source), "exec")
        target = out / source.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
        target.chmod(0o644)
        written.append(target)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python build.py OUT_DIR")
    print(f"{len(build(Path(sys.argv[1])))} files")
