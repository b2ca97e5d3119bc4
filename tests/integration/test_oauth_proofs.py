"""Signed words and lent tokens at the token endpoint, and the client library that everybody uses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from clients_kit import Replica
from facts_kit import HandClock
from oauth_kit import OTHER, PRIVATE, RSA, House, error_in, opened, private_pem, public_pem

from tools.oauth import ACCESS_TOKEN, TokenDesk, oauth_app
from tools.oauth_form import BEARER_ASSERTION


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path, HandClock()) as found:
        yield found


# --- private_key_jwt --------------------------------------------------------------------------------------------------


def assertion(house: House, key: Any = PRIVATE, *, algorithm: str = "ES256", typ: str = "JWT", **changed: Any) -> str:
    now = int(house.replica.clock.now().timestamp())
    claims = {
        "iss": "key_bot",
        "sub": "key_bot",
        "aud": f"{house.origin}/token",
        "exp": now + 120,
        "iat": now,
        "jti": "once",
    } | changed
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"typ": typ})


@pytest.fixture
async def keyed(house: House) -> House:
    await house.replica.register("key_bot", with_secret=False, public_key=public_pem(PRIVATE))
    return house


async def test_a_signed_word_gets_a_token_once(keyed: House) -> None:
    signed = assertion(keyed)
    answer = await keyed.asserted(signed)
    assert answer.status_code == 200
    assert (await keyed.call(answer.json()["access_token"])).status_code == 200
    assert error_in(await keyed.asserted(signed)) == "401 invalid_client"
    assert (await keyed.asserted(assertion(keyed, jti="another"))).status_code == 200


async def test_a_signed_word_is_good_once_at_all_controllers_and_around_every_window(
    keyed: House, tmp_path: Path
) -> None:
    clock = keyed.replica.clock
    clock.pass_(59)
    signed = assertion(keyed)
    assert (await keyed.asserted(signed)).status_code == 200
    clock.pass_(2)
    other = Replica(tmp_path, clock, resource=keyed.resource)
    second = oauth_app(TokenDesk(other.clients, other.desk, other.limits, keyed.resource, 900))
    try:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=second), base_url=keyed.origin, trust_env=False
        ) as http:
            form = {"grant_type": "client_credentials", "client_assertion_type": BEARER_ASSERTION}
            again = await http.post("/token", data={**form, "client_assertion": signed})
            fresh = await http.post("/token", data={**form, "client_assertion": assertion(keyed, jti="two")})
    finally:
        other.close()
    assert (again.status_code, fresh.status_code) == (401, 200)


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://elsewhere.example/token"},
        {"aud": None},
        {"exp": None},
        {"exp": 0},
        {"exp": "soon"},
        {"exp": 4_102_444_800},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"sub": "build_bot"},
        {"iss": "build_bot", "sub": "build_bot"},
        {"nbf": 4_102_444_800},
        {"iat": 4_102_444_800},
        {"iat": "today"},
        {"act": {"sub": "key_bot"}},
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"key": OTHER},
        {"typ": "at+jwt"},
    ],
)
async def test_a_word_that_is_not_the_clients_to_us_now_is_refused(keyed: House, changed: dict[str, Any]) -> None:
    assert error_in(await keyed.asserted(assertion(keyed, **changed))) == "401 invalid_client"


async def test_a_word_whose_time_is_over_is_refused(keyed: House) -> None:
    signed = assertion(keyed)
    keyed.replica.clock.pass_(120)
    assert error_in(await keyed.asserted(signed)) == "401 invalid_client"


async def test_a_public_key_is_no_shared_secret(keyed: House) -> None:
    """The attack: sign by HMAC with what everybody knows, or by nothing at all."""
    _, body, _ = assertion(keyed).split(".")
    for algorithm in ("HS256", "none", "NONE", "hs256"):
        forged_head = (
            base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).decode().rstrip("=")
        )
        signed = f"{forged_head}.{body}".encode()
        mac = hmac.new(public_pem(PRIVATE).encode(), signed, hashlib.sha256).digest()
        ends = "" if algorithm.lower() == "none" else base64.urlsafe_b64encode(mac).decode().rstrip("=")
        assert error_in(await keyed.asserted(f"{forged_head}.{body}.{ends}")) == "401 invalid_client"


# --- token exchange ---------------------------------------------------------------------------------------------------


async def test_a_session_lends_a_part_of_its_authority(house: House) -> None:
    token = await house.token(scope="workspace:read workspace:write")
    answer = await house.exchange(token, scope="workspace:read", paths="src/web/**", expires_in="60")
    told = answer.json()
    assert (answer.status_code, told["issued_token_type"], told["scope"]) == (200, ACCESS_TOKEN, "workspace:read")
    assert told["expires_in"] == 60
    called = await house.call(told["access_token"])
    assert called.json()["result"]["content"][0]["text"] == "files of client.build_bot/2"


async def test_a_lent_token_neither_outlives_nor_outranks_its_lender(house: House) -> None:
    token = await house.token(scope="workspace:read", expires_in="60")
    lent = (await house.exchange(token)).json()
    assert (lent["expires_in"], lent["scope"]) == (60, "workspace:read")
    assert error_in(await house.exchange(token, scope="workspace:read workspace:write")) == "400 invalid_scope"
    assert error_in(await house.exchange(token, paths="**")) == "400 invalid_request"
    assert error_in(await house.exchange(token, role="merger")) == "400 invalid_request"
    house.replica.clock.pass_(60)
    assert (await house.call(lent["access_token"])).status_code == 401
    assert error_in(await house.exchange(token)) == "400 invalid_grant"


async def test_a_session_of_the_loop_lends_over_the_wire(house: House) -> None:
    own = house.replica.desk.sign_in(await house.replica.begin_own())
    answer = await house.exchange(own, role="contributor", scope="workspace:read")
    assert answer.status_code == 200
    called = await house.call(answer.json()["access_token"])
    assert called.json()["result"]["content"][0]["text"] == "files of client.shop-1a2b3c/1"
    assert error_in(await house.exchange(own)) == "400 invalid_request"


async def test_a_session_that_this_process_knows_as_tainted_lends_nothing(house: House) -> None:
    token = await house.token()
    assert (await house.call(token)).status_code == 200
    house.replica.desk.taint("client.build_bot/1")
    answer = await house.exchange(token)
    assert error_in(answer) == "400 invalid_request"
    assert "somebody outside" in answer.json()["error_description"]


@pytest.mark.parametrize(
    "more",
    [
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"actor_token": "x"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"client_id": "build_bot", "client_secret": "x"},
        {"audience": "https://elsewhere.example"},
    ],
)
async def test_an_exchange_of_another_kind_is_refused(house: House, more: dict[str, str]) -> None:
    answer = await house.exchange(await house.token(), **more)
    assert error_in(answer) in {"400 invalid_request", "400 invalid_target"}


async def test_nobodys_token_lends_nothing(house: House) -> None:
    for token in ("x", "fb1.x.y", "fb1." + "A" * 500):
        assert error_in(await house.exchange(token)) == "400 invalid_grant"


# --- the library that everybody uses ----------------------------------------------------------------------------------


class Memory:
    """A client's own storage, as its library asks for it."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.info = client_info


@pytest.mark.parametrize("how", ["secret", "key"])
async def test_the_official_client_library_finds_its_way_in(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path, HandClock(datetime.now(UTC))) as house:
        provider: Any
        if how == "secret":
            provider = ClientCredentialsOAuthProvider(
                house.resource, Memory(), "build_bot", house.secret, issuer=house.origin
            )
        else:
            await house.replica.register("key_bot", with_secret=False, public_key=public_pem(RSA))
            signing = SignedJWTParameters(issuer="key_bot", subject="key_bot", signing_key=private_pem(RSA))
            provider = PrivateKeyJWTOAuthProvider(
                house.resource,
                Memory(),
                "key_bot",
                assertion_provider=signing.create_assertion_provider(),
                issuer=house.origin,
            )
        async with (
            httpx2.AsyncClient(auth=provider, trust_env=False) as http,
            Client(streamable_http_client(house.resource, http_client=http), mode="2026-07-28", cache=None) as client,
        ):
            assert {tool.name for tool in (await client.list_tools()).tools} == {"list_files", "run_tests"}
            assert (await client.call_tool("list_files", {})).content
