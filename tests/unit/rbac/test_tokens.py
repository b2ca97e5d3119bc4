"""Bearer tokens: whose they are is open, who may use them is not, and none lives for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import ConfigError
from rbac.tokens import MAX_SECONDS, digest_of, expiry, mint, new_secret, same, session_in

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SESSION = "client.build_bot/1"
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=."


def test_a_token_names_its_session_and_is_like_no_other() -> None:
    made = [mint(SESSION) for _ in range(50)]
    assert {session_in(token) for token, _ in made} == {SESSION}
    assert len({token for token, _ in made}) == len({digest for _, digest in made}) == 50


def test_what_is_kept_of_a_token_does_not_hold_it() -> None:
    token, digest = mint(SESSION)
    assert digest == digest_of(token)
    assert digest.startswith("sha256:")
    assert token not in digest
    assert same(digest, digest_of(token))
    assert not same(digest, digest_of(token + "x"))


def test_a_token_under_another_sessions_name_has_another_digest() -> None:
    token, digest = mint(SESSION)
    other, _ = mint("client.other/1")
    forged = ".".join([*other.split(".")[:2], token.split(".")[2]])
    assert session_in(forged) == "client.other/1"
    assert not same(digest_of(forged), digest)


@given(st.one_of(st.text(max_size=500), st.text(CHARACTERS, max_size=120), st.binary(), st.none(), st.integers()))
def test_garbage_is_nobodys_token(garbage: object) -> None:
    assert session_in(garbage) is None


@given(st.text(CHARACTERS, max_size=60), st.text(CHARACTERS, max_size=60))
def test_what_looks_like_a_token_is_taken_apart_without_an_error(session: str, secret: str) -> None:
    assert session_in(f"fb1.{session}.{secret}") is None


@given(st.integers(min_value=0), st.characters())
def test_a_token_with_one_character_changed_is_another_one(at: int, put: str) -> None:
    token, digest = mint(SESSION)
    place = at % len(token)
    changed = token[:place] + put + token[place + 1 :]
    found = session_in(changed)
    assert found is None or isinstance(found, str)
    assert changed == token or not same(digest_of(changed), digest)


@pytest.mark.parametrize("session", ["", "x", "client.a", "client.a/0", "client.a/1\n", "Client.A/1", "a/../1", "é/1"])
def test_no_token_is_made_for_what_is_no_session(session: str) -> None:
    with pytest.raises(ConfigError, match="is no session"):
        mint(session)


@pytest.mark.parametrize("seconds", [0, -1, None, MAX_SECONDS + 1, 1.5, "60", True, float("inf")])
def test_no_token_lives_for_ever_or_not_at_all(seconds: object) -> None:
    with pytest.raises(ConfigError, match="a day"):
        expiry(NOW, seconds)


@pytest.mark.parametrize("seconds", [1, 900, MAX_SECONDS])
def test_a_token_ends_when_it_was_said(seconds: int) -> None:
    assert expiry(NOW, seconds) == NOW + timedelta(seconds=seconds)


def test_a_clients_secret_is_no_token() -> None:
    assert len({new_secret() for _ in range(20)}) == 20
    assert session_in(new_secret()) is None
