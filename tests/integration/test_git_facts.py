"""Facts of a change over a real repository: what git has, and no word of whoever wrote it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.git_facts import MOST_TEXT_BYTES, FactsOptions, GitFacts
from controller.adapters.git_store import Store, create_bare
from controller.domain.change import ChangeFacts, FileKind, FileStatus, Role
from controller.domain.ids import Branch, Commit, Repository
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals

SHOP = Repository("shop")
TOKEN = "ghp_" + "a1B2c3D4" * 5
BASE = {
    "app.py": "def price():\n    return 1\n",
    "tests/test_app.py": "from app import price\n\n\ndef test_price():\n    assert price() == 1\n",
    "build.py": "import subprocess\nsubprocess.run(['tools/pack.sh', 'out'])\n",
    "tools/pack.sh": "cp -r . $1\n",
    "README.md": "The shop\n",
    ".github/CODEOWNERS": "/payments/ @money\n",
    "payments/pay.py": "def pay():\n    return 2\n",
}


class House:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.store = Store(folder / "forge")
        bare = self.store.path(SHOP)
        bare.parent.mkdir()
        create_bare(bare, Branch("main"))
        self.work = folder / "work"
        self.git("clone", "-q", str(bare), str(self.work), cwd=folder)
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False))
        self.facts = GitFacts(self.store, self.seals, FactsOptions(**options))
        for path, text in BASE.items():
            self.write(path, text)
        self.base = self.commit()

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        who = {
            f"GIT_{one}_{what}": f"ann{at}"
            for one in ("AUTHOR", "COMMITTER")
            for what, at in (("NAME", ""), ("EMAIL", "@a.b"))
        }
        environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.work, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def commit(self) -> Commit:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "A change")
        self.git("push", "-q", "origin", "HEAD:main")
        return Commit(self.git("rev-parse", "HEAD"))

    async def of(self, task: str = "Make it better") -> ChangeFacts:
        return await self.facts.of(SHOP, self.base, self.commit(), task)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(
        tmp_path, build=(("python", "build.py", "{out}"),), start=(("python", "-m", "app"), ("sh", "tools/pack.sh"))
    )


def by_path(facts: ChangeFacts) -> dict[str, Any]:
    return {one.path: one for one in facts.files}


async def test_every_status_and_kind_is_told_apart(house: House) -> None:
    (house.work / "README.md").unlink()
    house.git("mv", "payments/pay.py", "payments/paying.py")
    house.write("app.py", "def price():\n    return 2\n")
    house.write("logo.bin", b"\0" * 2_000)
    (house.work / "link").symlink_to("app.py")
    house.write("run", "#!/bin/sh\n").chmod(0o755)
    (house.work / "tools/pack.sh").chmod(0o755)
    facts = await house.of()
    files = by_path(facts)
    assert {path: one.status for path, one in files.items()} == {
        "README.md": FileStatus.DELETED,
        "payments/paying.py": FileStatus.RENAMED,
        "app.py": FileStatus.CHANGED,
        "logo.bin": FileStatus.ADDED,
        "link": FileStatus.ADDED,
        "run": FileStatus.ADDED,
        "tools/pack.sh": FileStatus.MODE,
    }
    assert (files["logo.bin"].binary, files["logo.bin"].bytes_after) == (True, 2_000)
    assert (files["link"].kind, files["run"].kind) == (FileKind.SYMLINK, FileKind.EXECUTABLE)
    assert (files["tools/pack.sh"].kind, files["tools/pack.sh"].was_kind) == (FileKind.EXECUTABLE, FileKind.FILE)
    assert files["payments/paying.py"].was == "payments/pay.py"
    assert (files["app.py"].lines_added, files["app.py"].lines_removed) == (1, 1)


async def test_a_submodule_is_one(house: House) -> None:
    house.git("update-index", "--add", "--cacheinfo", f"160000,{house.base},vendored")
    house.git("commit", "-q", "-m", "A link to elsewhere")
    house.git("push", "-q", "origin", "HEAD:main")
    facts = await house.facts.of(SHOP, house.base, Commit(house.git("rev-parse", "HEAD")), "")
    assert by_path(facts)["vendored"].kind is FileKind.SUBMODULE


async def test_a_path_of_an_owner_on_the_base_is_owned_whatever_the_head_says(house: House) -> None:
    house.write(".github/CODEOWNERS", "")
    house.write("payments/pay.py", "def pay():\n    return 3\n")
    facts = await house.of()
    assert [(one.path, one.owners) for one in facts.owned] == [("payments/pay.py", ("@money",))]
    assert Role.OWNERS in by_path(facts)[".github/CODEOWNERS"].roles


async def test_what_the_build_calls_two_steps_deep_runs_outside(house: House) -> None:
    house.write("build.py", BASE["build.py"] + "# more\n")
    house.write("tools/pack.sh", "true\n")
    house.write("app.py", "def price():\n    return 1  # the service itself\n")
    facts = await house.of()
    assert {one.path for one in facts.with_role(Role.RUNS_OUTSIDE)} == {"build.py", "tools/pack.sh"}


async def test_words_of_the_author_are_sealed_and_a_secret_stands_nowhere(house: House) -> None:
    house.write("requirements.txt", "left-pad-of-a-stranger==6.6.6\n")
    house.write("app.py", f"TOKEN = '{TOKEN}'\n\ndef price():\n    return 1\n")
    facts = await house.of()
    assert "left-pad" not in facts.model_dump_json()
    assert await house.seals.open(facts.dependencies[0].name) == "left-pad-of-a-stranger"
    assert [one.rule for one in facts.secrets] == ["secret/github-token"]
    assert TOKEN not in facts.model_dump_json()


async def test_a_secret_that_a_later_commit_takes_away_still_comes_into_the_history(house: House) -> None:
    house.write("app.py", f"TOKEN = '{TOKEN}'\n")
    house.commit()
    house.write("app.py", BASE["app.py"] + "# fine\n")
    facts = await house.of()
    assert [one.rule for one in facts.secrets] == ["secret/github-token"]


HOSTILE: dict[str, Callable[[], str | bytes]] = {
    "deep python": lambda: "x = " + "(" * 5_000 + ")" * 5_000 + "\n",
    "deep json": lambda: "[" * 200_000,
    "deep toml": lambda: "a = " + "[" * 100_000 + "\n",
    "too large": lambda: "x = 1\n" * (MOST_TEXT_BYTES // 6 + 10),
}


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("tests/test_deep.py", "deep python"),
        ("package.json", "deep json"),
        ("pyproject.toml", "deep toml"),
        ("a.py", "too large"),
    ],
)
async def test_a_hostile_file_costs_its_own_answer_and_asks_for_a_person(house: House, path: str, what: str) -> None:
    house.write(path, HOSTILE[what]())
    facts = await house.of()
    assert path in by_path(facts)
    assert facts.unread, what


async def test_a_name_that_is_no_utf8_is_told_in_a_spelling_that_no_pattern_trusts(house: House) -> None:
    house.write(os.fsdecode(b"caf\xe9.py"), "x = 1\n")
    assert list(by_path(await house.of())) == ["caf\\xe9.py"]


@pytest.mark.parametrize(
    ("command", "files", "reached"),
    [
        (("sh", "check.sh"), {"check.sh": "sh tools/a.sh\n", "tools/a.sh": "python3 -m tools.b\n"}, ["check.sh", "tools/a.sh", "tools/b.py"]),  # noqa: E501
        (("make", "test"), {"Makefile": "run:\n\tsh run.sh\ntest: lint\n\tsh a.sh\nlint:\n\tsh b.sh\n"}, ["a.sh", "b.sh"]),  # noqa: E501
        (("npm", "test"), {"package.json": '{"scripts": {"test": "sh a.sh", "pretest": "sh b.sh", "go": "sh run.sh"}}'}, ["a.sh", "b.sh"]),  # noqa: E501
        (("npm", "run", "go"), {"package.json": '{"scripts": {"test": "sh a.sh", "go": "sh run.sh"}}'}, ["run.sh"]),
        (("python", "-m", "tools.b"), {}, ["tools/b.py"]),
        (("python", "-m", "pytest", "-q", "tests/test_app.py"), {}, []),
    ],
)  # fmt: skip
async def test_scripts_of_the_test_command_decide_what_is_tested(
    tmp_path: Path, command: tuple[str, ...], files: dict[str, str], reached: list[str]
) -> None:
    house = House(tmp_path, test=command)
    scripts = {"a.sh": "true\n", "b.sh": "true\n", "run.sh": "true\n", "tools/b.py": "print(1)\n"}
    for path, text in (scripts | files).items():
        house.write(path, text)
    house.base = house.commit()
    for path in [*scripts, "tools/a.sh", "check.sh", "app.py", "tests/test_app.py"]:
        if (house.work / path).exists():
            house.write(path, (house.work / path).read_text() + "\n# more\n")
    facts = await house.of()
    assert sorted(one.path for one in facts.with_role(Role.TEST_CONFIG)) == reached


async def test_data_that_a_test_of_the_base_names_is_the_tests_data(house: House) -> None:
    for path in ("cases/a.json", "samples/b.json", "rates/c.json"):
        house.write(path, "[1]\n")
    house.write("tests/test_app.py", BASE["tests/test_app.py"] + 'A = "cases/a.json"\nB = ROOT / "samples" / NAME\n')
    house.base = house.commit()
    for path in ("cases/a.json", "samples/b.json", "rates/c.json", "cases/new.json"):
        house.write(path, "[2]\n")
    facts = await house.of()
    assert {one.path for one in facts.weakened} == {"cases/a.json", "samples/b.json"}
