"""The token endpoint and the door over real HTTP: how a program gets a token, and what it never gets."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from clients_kit import SCOPES
from facts_kit import HandClock
from oauth_kit import PRIVATE, House, error_in, opened, public_pem

from controller.domain import events as e
from controller.domain.ids import agent_stream
from controller.errors import ConfigError
from tools.door import resource_of
from tools.oauth import ATTEMPTS
from tools.oauth_form import MAX_BODY_BYTES


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path, HandClock()) as found:
        yield found


# --- what there is ----------------------------------------------------------------------------------------------------


async def test_a_client_finds_its_way_from_the_401_to_the_token_endpoint(house: House) -> None:
    challenge = (await house.call(None)).headers["WWW-Authenticate"]
    metadata = f"{house.origin}/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{metadata}"' in challenge
    assert "workspace:read" in challenge
    assert "error=" not in challenge
    resource = (await house.http.get(metadata)).json()
    assert resource["resource"] == house.resource
    assert resource["bearer_methods_supported"] == ["header"]
    (server,) = resource["authorization_servers"]
    told = (await house.http.get(f"{server}/.well-known/oauth-authorization-server")).json()
    assert (told["issuer"], told["token_endpoint"]) == (server, f"{house.origin}/token")
    assert set(told["token_endpoint_auth_methods_supported"]) == {
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
    }


async def test_a_wrong_token_is_told_so(house: House) -> None:
    answer = await house.call("fb1.nobody.nothing")
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_only_what_is_there_is_served_and_only_to_this_host(house: House) -> None:
    assert (await house.http.get(f"{house.origin}/token")).status_code == 405
    assert (await house.http.get(f"{house.origin}/.well-known/openid-configuration")).status_code == 404
    foreign = {"Host": "evil.example"}
    for path in ("/token", "/.well-known/oauth-authorization-server"):
        assert (await house.http.get(house.origin + path, headers=foreign)).status_code == 421
    assert (await house.http.get(f"{house.origin}/authorize")).json()["error"] == "unsupported_response_type"


# --- client_credentials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["basic", "post"])
async def test_a_secret_gets_a_token_that_works(house: House, way: str) -> None:
    if way == "basic":
        answer = await house.credentials(resource=house.resource)
    else:
        post = {"client_id": "build_bot", "client_secret": house.secret}
        answer = await house.ask(grant_type="client_credentials", **post)
    told = answer.json()
    assert (answer.status_code, told["token_type"], told["expires_in"]) == (200, "Bearer", 900)
    assert told["scope"].split() == list(SCOPES)
    assert answer.headers["Cache-Control"] == "no-store"
    called = await house.call(told["access_token"])
    assert called.json()["result"]["content"][0]["text"] == "files of client.build_bot/1"


async def test_a_token_has_no_more_scopes_than_were_asked_for_and_registered(house: House) -> None:
    answer = await house.credentials(scope="workspace:read deploy:write nonsense", expires_in="60")
    assert (answer.json()["scope"], answer.json()["expires_in"]) == ("workspace:read", 60)
    assert error_in(await house.credentials(scope="deploy:write")) == "400 invalid_scope"


async def test_a_call_beyond_the_tokens_scopes_is_told_all_that_it_needs(house: House) -> None:
    token = await house.token(scope="workspace:read")
    assert (await house.call(token)).status_code == 200
    answer = await house.call(token, "run_tests")
    assert answer.status_code == 403
    challenge = answer.headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="workspace:read workspace:write"' in challenge
    assert "resource_metadata=" in challenge
    entries = await house.replica.log.read(agent_stream("client.build_bot/1"))
    refused = [entry.event for entry in entries if isinstance(entry.event, e.CallRefused)]
    assert [one.rules for one in refused] == [("insufficient-scope",)]
    assert (await house.call(await house.token(), "run_tests")).status_code == 200


async def test_no_token_is_read_from_a_url(house: House) -> None:
    token = await house.token()
    assert (await house.call(None, query=f"?access_token={token}")).status_code == 400
    assert (await house.call(token, query="?x=1")).status_code == 400
    form = {"grant_type": "client_credentials"}
    answer = await house.http.post(
        f"{house.origin}/token?client_secret={house.secret}", data=form, auth=("build_bot", house.secret)
    )
    assert error_in(answer) == "400 invalid_request"


@pytest.mark.parametrize(
    ("who", "shown"), [("build_bot", "wrong"), ("build_bot", ""), ("nobody", None), ("", None), ("é", None)]
)
async def test_a_wrong_secret_and_an_unknown_client_read_the_same(house: House, who: str, shown: str | None) -> None:
    """`shown=None`: the secret of somebody else."""
    secret = house.secret if shown is None else shown
    answer = await house.ask(grant_type="client_credentials", basic=(who, secret))
    assert error_in(answer) == "401 invalid_client"
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    wrong = await house.ask(grant_type="client_credentials", basic=("build_bot", "wrong"))
    assert answer.content == wrong.content


async def test_a_client_without_a_secret_is_not_let_in_by_an_empty_one(house: House) -> None:
    await house.replica.register("key_bot", with_secret=False, public_key=public_pem(PRIVATE))
    for secret in ("", "x"):
        answer = await house.ask(grant_type="client_credentials", basic=("key_bot", secret))
        assert error_in(answer) == "401 invalid_client"


async def test_a_retired_client_gets_nothing_and_its_token_is_worth_nothing(house: House) -> None:
    token = await house.token()
    await house.replica.retire()
    assert error_in(await house.credentials()) == "401 invalid_client"
    assert (await house.call(token)).status_code == 401


@pytest.mark.parametrize("resource", ["https://elsewhere.example/mcp", "http://127.0.0.1:1/mcp", "x"])
async def test_a_token_for_somebody_else_is_not_given(house: House, resource: str) -> None:
    assert error_in(await house.credentials(resource=resource)) == "400 invalid_target"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"grant_type=client_credentials&grant_type=client_credentials", None, 400),
        (b"grant_type=client_credentials&scope=a&scope=b", None, 400),
        (b"grant_type=client_credentials", "application/json", 400),
        (b"grant_type=client_credentials", "text/plain", 400),
        (b'{"grant_type": "client_credentials"}', None, 400),
        (b"grant_type=\xff", None, 400),
        (b"grant_type=%ff", None, 400),
        (b"", None, 400),
        (b"grant_type=password&username=a&password=b", None, 400),
        (b"grant_type=client_credentials&" + b"&".join(b"a%d=1" % n for n in range(40)), None, 400),
        (b"grant_type=client_credentials&a=" + b"x" * MAX_BODY_BYTES, None, 413),
        (b"grant_type=client_credentials&client_secret=x&client_id=build_bot", None, 400),
        (b"grant_type=client_credentials&client_id=another", None, 400),
        (b"grant_type=client_credentials&expires_in=0", None, 400),
        (b"grant_type=client_credentials&expires_in=none", None, 400),
        (b"grant_type=client_credentials&expires_in=901", None, 400),
    ],
)
async def test_what_is_no_single_plain_form_is_refused(
    house: House, body: bytes, kind: str | None, status: int
) -> None:
    answer = await house.http.post(
        f"{house.origin}/token",
        content=body,
        headers={"Content-Type": kind or "application/x-www-form-urlencoded"},
        auth=("build_bot", house.secret),
    )
    assert answer.status_code == status
    assert error_in(answer).split()[1] in {"invalid_request", "unsupported_grant_type"}
    assert await house.replica.log.live("client/build_bot/") == []


async def test_two_authorization_headers_get_nothing(house: House) -> None:
    answer = await house.http.post(
        f"{house.origin}/token",
        content="grant_type=client_credentials",
        headers=[
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", "Basic YTpi"),
            ("Authorization", "Basic YTpi"),
        ],
    )
    assert answer.status_code == 400


@given(
    body=st.binary(max_size=200),
    header=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_garbage_makes_the_endpoint_stumble(house: House, body: bytes, header: str) -> None:
    answer = await house.http.post(
        f"{house.origin}/token",
        content=body,
        headers={"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {header}"},
    )
    assert answer.status_code in {400, 401, 429}


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_guesses_are_limited_and_lock_out_nobody_who_knows_the_secret(house: House) -> None:
    for _ in range(ATTEMPTS):
        assert (await house.ask(grant_type="client_credentials", basic=("build_bot", "x"))).status_code == 401
    answer = await house.ask(grant_type="client_credentials", basic=("build_bot", "x"))
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert (await house.credentials()).status_code == 200


async def test_a_client_that_asks_in_a_loop_is_slowed_down(house: House) -> None:
    answers = [(await house.credentials()).status_code for _ in range(ATTEMPTS + 1)]
    assert answers == [200] * ATTEMPTS + [429]


def spoil(database: Path) -> None:
    """A folder where the file was."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    database.mkdir()


async def test_nobody_gets_a_token_when_attempts_cannot_be_counted(house: House, tmp_path: Path) -> None:
    house.replica.limits.close()
    spoil(tmp_path / "limits.db")
    answer = await house.credentials()
    assert error_in(answer) == "503 temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    assert await house.replica.log.live("client/build_bot/") == []


# --- the address ------------------------------------------------------------------------------------------------------


def test_the_gateways_address_is_one_host_and_never_in_clear() -> None:
    assert resource_of("", 7420) == "http://127.0.0.1:7420/mcp"
    assert resource_of("", 0) == ""
    assert resource_of("https://flyball.example.org", 0) == "https://flyball.example.org/mcp"
    for wrong in ("http://flyball.example.org", "https://a.example/b", "https://u:p@a.example", "https://a?x", "a"):
        with pytest.raises(ConfigError, match="public_url"):
            resource_of(wrong, 7420)
