"""Make Flyball's own environment, `.venv`, from a lock. Started by ./flyball with any Python 3.11+ and nothing else.

It is never repaired or upgraded in place. The old one steps aside, a new one is built, and the copy of the lock is put
inside it at the end: an environment that has the copy is whole. Whoever is killed in between leaves a mark, and the
next start clears up. Two at once: the second waits for the first, whose pip or uv holds the same lock while it runs.
Every download goes through pip or uv as their owner has configured them (mirrors, proxies, certificates).
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCK, DEV_LOCK = "requirements.lock", "requirements-dev.lock"
UNFINISHED = "flyball-unfinished"
WAIT_S = 1_800  # for a download over a slow line, and for another bootstrap that waits for one
WORDS_KEPT = 12  # lines of a failed command that are shown
Argv = list[str]


class CannotBootstrapError(Exception):
    """Its text says what to do."""


@dataclass(frozen=True)
class Way:
    """How an environment can be made on this machine: `create` makes it empty, `install` fills it from the locks."""

    create: Argv
    install: Argv


@dataclass(frozen=True)
class Place:
    """The checkout's environment, and where it steps aside to while its successor is built."""

    root: Path
    venv: Path
    old: Path
    foreign: Path  # somebody else's .venv, which is kept

    @classmethod
    def of(cls, root: Path) -> Place:
        return cls(root, root / ".venv", root / ".venv.old", root / ".venv.before-flyball")

    def has(self, lock: str) -> bool:
        """Whether the environment runs, and was made from this very lock."""
        copy = self.venv / lock
        runs = os.access(self.venv / "bin" / "python", os.X_OK)
        return runs and copy.is_file() and copy.read_bytes() == (self.root / lock).read_bytes()


def ensure(root: Path, *, dev: bool) -> None:
    """Afterwards `.venv` is whole and matches the lock. One that was made with the development tools keeps them."""
    place = Place.of(root)
    with alone(root) as held:
        recover(place)
        dev = dev or (place.venv / DEV_LOCK).exists()
        locks = [LOCK, DEV_LOCK] if dev else [LOCK]
        if not all(place.has(lock) for lock in locks):
            replace(place, locks, held)


@contextmanager
def alone(root: Path) -> Iterator[int]:
    """Hold the checkout's folder itself, so that no lock file is left. Children that inherit it hold it too."""
    held = os.open(root, os.O_RDONLY)
    try:
        wait_for(held)
        yield held
    finally:
        os.close(held)


def wait_for(held: int) -> None:
    deadline = time.monotonic() + WAIT_S
    said = False
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise CannotBootstrapError(f"another Flyball has been setting up for {WAIT_S} s. End it, and start again.")
        if not said:
            say("Another Flyball is setting up the environment; waiting for it\n")
            said = True
        time.sleep(0.2)


def recover(place: Place) -> None:
    """Clear up after a bootstrap that was killed: what it had begun goes, what had stepped aside comes back."""
    if (place.venv / UNFINISHED).exists():
        shutil.rmtree(place.venv)
    if place.old.exists() and not place.venv.exists():
        place.old.rename(place.venv)
    shutil.rmtree(place.old, ignore_errors=True)


def replace(place: Place, locks: list[str], held: int) -> None:
    ways = ways_of_making(interpreter(), place, locks[-1])  # raises before anything is touched
    if place.venv.exists():
        step_aside(place)
    begun = time.monotonic()
    try:
        build(place, ways, held)
    except BaseException:
        shutil.rmtree(place.venv, ignore_errors=True)
        recover(place)
        raise
    for lock in locks:
        shutil.copyfile(place.root / lock, place.venv / lock)
    (place.venv / UNFINISHED).unlink()
    recover(place)
    say(f" done in {time.monotonic() - begun:.0f} s\n")


def step_aside(place: Place) -> None:
    if (place.venv / LOCK).exists():
        place.venv.rename(place.old)
        return
    if place.foreign.exists():
        raise CannotBootstrapError(f"{place.venv} was not made by Flyball. Move it away, and start again.")
    place.venv.rename(place.foreign)
    say(f"Kept the .venv that was here as {place.foreign.name}\n")


def build(place: Place, ways: list[Way], held: int) -> None:
    """Try each way from an empty folder; the last one's failure is the one told."""
    say("Setting up Flyball's environment (once, about a minute)...")
    for way in ways:
        shutil.rmtree(place.venv, ignore_errors=True)
        place.venv.mkdir()
        (place.venv / UNFINISHED).touch()
        (place.venv / ".gitignore").write_text("*\n")
        try:
            run(way.create, place.root, held)
            run(way.install, place.root, held)
        except CannotBootstrapError:
            if way is ways[-1]:
                raise
        else:
            return


def interpreter() -> str:
    """The Python beneath any environment that is active, by its full name: an upgrade that removes it is noticed."""
    beneath: str = getattr(sys, "_base_executable", sys.executable)  # Python has no public name for it
    return os.path.realpath(beneath)


def ways_of_making(python: str, place: Place, lock: str) -> list[Way]:
    """Best first. uv before pip because it is faster; pip after it because it may know a mirror that uv does not."""
    venv, inside = str(place.venv), str(place.venv / "bin" / "python")
    wanted = ["--require-hashes", "-r", str(place.root / lock)]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-user"]
    pip = [inside, "-m", "pip", "install", *quiet, *wanted]
    ways = []
    if uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", inside, *wanted]
        ways.append(Way([uv, "venv", "--quiet", "--allow-existing", "--python", python, venv], install))
    if importable("ensurepip"):
        ways.append(Way([python, "-m", "venv", venv], pip))
    elif importable("virtualenv"):
        ways.append(Way([python, "-m", "virtualenv", "--quiet", venv], pip))
    elif importable("pip") and pip_reaches_other_environments():
        outside = [python, "-m", "pip", "--python", inside, "install", *quiet, *wanted]
        ways.append(Way([python, "-m", "venv", "--without-pip", venv], outside))
    if not ways:
        raise CannotBootstrapError(what_to_install(python))
    return ways


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def pip_reaches_other_environments() -> bool:
    """`pip --python` came with pip 22.3."""
    major, minor = importlib.import_module("pip").__version__.split(".")[:2]
    return (int(major), int(minor)) >= (22, 3)


def what_to_install(python: str) -> str:
    missing = f"{python} cannot make environments: it has neither ensurepip nor pip, and there is no uv."
    if shutil.which("apt-get"):
        return f"{missing}\nInstall it with: sudo apt-get install -y python3.{sys.version_info.minor}-venv"
    return f"{missing}\nInstall uv, or a Python with ensurepip (FLYBALL_PYTHON names one that is not on PATH)."


def run(words: Argv, folder: Path, held: int) -> None:
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, pass_fds=(held,)
        )
        try:
            code = child.wait(WAIT_S)
        except BaseException as error:
            child.kill()
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CannotBootstrapError(f"{' '.join(words[:4])} took more than {WAIT_S} s. Start again.") from error
            raise
        if code:
            said.seek(0)
            last = said.read().decode(errors="replace").splitlines()[-WORDS_KEPT:]
            raise CannotBootstrapError(
                f"{' '.join(words[:4])} ... ended with {code}:\n  " + "\n  ".join(last) + "\n"
                "Check the network, and pip's or uv's own settings (index, proxy, certificate). Nothing is half done."
            )


def say(words: str) -> None:
    sys.stderr.write(words)
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent
    try:
        ensure(root, dev="--dev" in arguments)
    except CannotBootstrapError as error:
        say(f"\nflyball: {error}\n")
    except OSError as error:
        say(f"\nflyball: {error}. Flyball must be able to write about 400 MB to {root / '.venv'}.\n")
    except KeyboardInterrupt:
        say("\nflyball: stopped; nothing is half done.\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
