"""`flyball rbac clients` and `flyball rbac token`: what a person pastes, and what they are told when it is no use."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from controller.commands.clients import clients, seconds_of, token
from controller.embedded import bring_in
from controller.errors import ConfigError
from controller.recording import Folder, open_record
from controller.settings import FILE, load
from rbac.tokens import digest_of, session_in

SETTINGS = '[repository]\nname = "shop"\nallowed = ["src/**"]\n[gateway]\nport = 7420\n'
PEM = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
PUBLIC = f"-----BEGIN PUBLIC KEY-----\n{PEM}\n-----END PUBLIC KEY-----\n"
main = click.Group("rbac", commands=[clients, token], context_settings={"help_option_names": ["-h", "--help"]})


def said(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(main, [*arguments, "--repo", str(root)])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done


def fine(root: Path, *arguments: str) -> Result:
    done = said(root, *arguments)
    assert done.exit_code == 0, done.output
    return done


def refused(root: Path, *arguments: str) -> str:
    done = said(root, *arguments)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    return done.stderr


def furnish(root: Path, settings: str = SETTINGS) -> Path:
    (root / FILE).write_text(settings)
    (root / "src").mkdir()
    (root / "src/cart.py").write_text("TOTAL = 1\n")
    git = ["git", "-C", str(root), "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return root


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that is in the embedded forge, and a log."""
    root = furnish(tmp_path_factory.mktemp("furnished"))
    bring_in(load(root / FILE), root, Folder(root / ".flyball"))
    open_record(Folder(root / ".flyball"), load(root / FILE), root).close()
    return root


@pytest.fixture
def house(furnished: Path, tmp_path: Path) -> Path:
    """A copy: every test may do with it what it likes."""
    shutil.copytree(furnished, tmp_path / "house")
    return tmp_path / "house"


def log_of(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (root / ".flyball").glob("log.db*"))


def test_whoever_lets_a_program_in_is_told_all_that_it_needs_once(house: Path) -> None:
    told = fine(house, "clients", "add", "build_bot", "--role", "contributor").stdout
    secret = next(word for word in told.split() if word.startswith("fb1s_"))
    assert "http://127.0.0.1:7420/token" in told
    assert f"curl -u 'build_bot:{secret}' -d grant_type=client_credentials http://127.0.0.1:7420/token" in told
    assert secret.encode() not in log_of(house)
    assert digest_of(secret).encode() in log_of(house)
    assert secret not in fine(house, "clients", "list").stdout


def test_a_program_with_a_key_has_no_secret(house: Path, tmp_path: Path) -> None:
    key = tmp_path / "bot.pem"
    key.write_text(PUBLIC)
    told = fine(house, "clients", "add", "key_bot", "--role", "compliance", "--public-key", str(key), "--json")
    assert set(json.loads(told.stdout)) == {"client_id", "token_endpoint", "resource", "scope"}
    key.write_text(PUBLIC.replace("PUBLIC", "PRIVATE"))
    assert "no public key" in refused(
        house, "clients", "add", "other_bot", "--role", "compliance", "--public-key", str(key)
    )


def test_a_token_by_hand_is_one_header_to_paste(house: Path) -> None:
    fine(house, "clients", "add", "build_bot", "--role", "contributor", "--scope", "workspace:read", "--path", "src/**")
    done = fine(house, "token", "build_bot", "--ttl", "90s")
    kind, _, shown = done.stdout.strip().partition("Authorization: Bearer ")
    assert (kind, session_in(shown)) == ("", "client.build_bot/1")
    assert "with scope workspace:read" in done.stderr
    again: dict[str, Any] = json.loads(fine(house, "token", "build_bot", "--json").stdout)
    assert (again["session"], again["resource"]) == ("client.build_bot/1", "http://127.0.0.1:7420/mcp")
    assert shown.encode() not in log_of(house)


@pytest.mark.parametrize("ttl", ["0", "0s", "none", "", "-1", "25h", "1d", "forever"])
def test_a_token_for_nothing_or_for_ever_is_refused(tmp_path: Path, ttl: str) -> None:
    assert "is no life of a token" in refused(tmp_path, "token", "build_bot", "--ttl", ttl)


@pytest.mark.parametrize(("ttl", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400)])
def test_a_length_of_time_is_read_as_people_write_it(ttl: str, seconds: int) -> None:
    assert seconds_of(ttl) == seconds
    with pytest.raises(ConfigError):
        seconds_of(f"{ttl} or so")


def test_a_retired_program_is_listed_with_the_reason_and_gets_nothing(house: Path) -> None:
    fine(house, "clients", "add", "build_bot", "--role", "contributor")
    fine(house, "clients", "retire", "build_bot", "--reason", "it moved house")
    assert "retired: it moved house" in fine(house, "clients", "list").stdout
    (row,) = json.loads(fine(house, "clients", "list", "--json").stdout)
    assert (row["client"], row["retired"]) == ("build_bot", "it moved house")
    assert "retired" in refused(house, "token", "build_bot")


SENSELESS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("clients", "add", "Build", "--role", "contributor"), "no name of a client"),
    (("clients", "add", "bot", "--role", "merger"), "cannot be 'merger'"),
    (("clients", "add", "bot", "--role", "contributor", "--scope", "deploy:write"), "deploy:write"),
    (("clients", "add", "bot", "--role", "contributor", "--repository", "bank"), "not served here"),
    (("token", "nobody"), "no client 'nobody'"),
)


@pytest.mark.parametrize(("arguments", "why"), SENSELESS)
def test_what_makes_no_sense_is_said_with_a_way_out(house: Path, arguments: tuple[str, ...], why: str) -> None:
    assert why in refused(house, *arguments)
    assert b"ClientRegistered" not in log_of(house)


def test_without_a_port_nobody_is_let_in_because_nobody_could_come(tmp_path: Path) -> None:
    root = furnish(tmp_path, SETTINGS.replace("7420", "0"))
    open_record(Folder(root / ".flyball"), load(root / FILE), root).close()
    assert "gateway.port is 0" in refused(root, "clients", "add", "bot", "--role", "contributor")
    assert "gateway.port is 0" in refused(root, "token", "bot")


def test_somebody_who_is_not_listed_lets_nobody_in(tmp_path: Path) -> None:
    root = furnish(tmp_path, SETTINGS + '[policy]\npeople = ["olga"]\n')
    open_record(Folder(root / ".flyball"), load(root / FILE), root).close()
    assert "may not say" in refused(root, "clients", "add", "bot", "--role", "contributor")


def test_before_the_repository_is_there_a_token_says_what_to_do(tmp_path: Path) -> None:
    root = furnish(tmp_path)
    open_record(Folder(root / ".flyball"), load(root / FILE), root).close()
    fine(root, "clients", "add", "build_bot", "--role", "contributor")
    assert "shop" in refused(root, "token", "build_bot")
