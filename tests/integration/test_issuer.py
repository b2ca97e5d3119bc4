"""Tokens by an external issuer: a real one on loopback, its keys, and everything that can be wrong with them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import HandClock
from oauth_kit import RSA, House, opened

from controller.adapters.issuer import MAX_KEYS_BYTES, IssuerTokens, Outsiders
from controller.domain import events as e
from controller.domain.ids import agent_stream
from controller.errors import ConfigError, Unavailable
from controller.settings import IssuerSection


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path, HandClock()) as found:
        yield found


# --- an external issuer -----------------------------------------------------------------------------------------------


@dataclass
class Issuer:
    """A real one on loopback, with keys that it publishes and habits that can be spoilt."""

    keys: dict[str, Any] = field(default_factory=lambda: {"one": RSA})
    asked: int = 0
    answer: Response | None = None  # None: the keys
    url: str = ""

    async def jwks(self, _: Request) -> Response:
        self.asked += 1
        if self.answer is not None:
            return self.answer
        published = [
            jwt.get_algorithm_by_name("RS256").to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return Response(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, *published]}))

    def token(
        self,
        house: House,
        *,
        key: Any = RSA,
        kid: str = "one",
        typ: str = "at+jwt",
        crit: list[str] | None = None,
        **changed: Any,
    ) -> str:
        now = int(house.replica.clock.now().timestamp())
        changed = {name: now + value.s if isinstance(value, FromNow) else value for name, value in changed.items()}
        claims = {
            "iss": self.url,
            "aud": house.resource,
            "exp": now + 300,
            "iat": now,
            "sub": "build_bot",
            "client_id": "build_bot",
            "scope": "workspace:read deploy:write",
        } | changed
        claims = {name: value for name, value in claims.items() if value is not None}
        algorithm = "HS256" if isinstance(key, str) else "RS256"
        return jwt.encode(
            claims, key, algorithm=algorithm, headers={"typ": typ, "kid": kid, **({"crit": crit} if crit else {})}
        )


@dataclass(frozen=True)
class FromNow:
    s: int


class Serving(uvicorn.Server):
    """Leaves the signals of the test's process alone."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, port=0, log_config=None, lifespan="off", http="h11", ws="none"))
        self.up = asyncio.Event()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def serve(self, sockets: Any = None) -> None:
        await self._serve(sockets)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    server = Serving(Starlette(routes=[Route("/keys", found.jwks)]))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.up.wait(), 10)
    found.url = f"http://127.0.0.1:{server.port}"
    yield found
    server.should_exit = True
    await running


@dataclass
class Federated:
    house: House
    issuer: Issuer
    tokens: IssuerTokens


@pytest.fixture
async def federated(house: House, issuer: Issuer) -> AsyncIterator[Federated]:
    replica = house.replica
    section = IssuerSection(url=issuer.url, keys_url=f"{issuer.url}/keys")
    found = IssuerTokens(section, house.resource, replica.clock)
    sessions = replica.desk._sessions
    sessions._visitors = Outsiders(replica.clients, found)  # the gateway of this house takes these tokens too
    yield Federated(house, issuer, found)
    await found.close()


async def test_an_issuers_token_lets_a_registered_client_in_as_far_as_both_go(federated: Federated) -> None:
    house, token = federated.house, federated.issuer.token(federated.house)
    assert (await house.call(token)).json()["result"]["content"][0]["text"] == "files of client.build_bot/1"
    assert (await house.call(token, "run_tests")).status_code == 403
    entries = await house.replica.log.read(agent_stream("client.build_bot/1"))
    issued = [entry.event for entry in entries if isinstance(entry.event, e.TokenIssued)]
    assert [(one.how, one.scopes) for one in issued] == [("external_issuer", ("workspace:read",))]
    assert token.encode() not in b"".join(entry.leaf for entry in entries)
    await house.replica.retire()
    assert (await house.call(token)).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "https://elsewhere.example/mcp"},
        {"aud": None},
        {"exp": None},
        {"exp": 0},
        {"exp": 1},
        {"exp": "never"},
        {"nbf": 4_102_444_800},
        {"client_id": "stranger"},
        {"client_id": None},
        {"client_id": ["build_bot"]},
        {"scope": ["workspace:read"]},
        {"sub": "alice"},
        {"sub": None},
        {"sub": ["build_bot"]},
        {"sub": "BUILD_BOT"},
        {"act": {"sub": "build_bot"}},
        {"act": {"sub": "stranger", "act": {"sub": "build_bot"}}},
        {"act": {}},
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}},
        {"cnf": {}},
        {"iat": FromNow(31)},
        {"iat": FromNow(86_400)},
        {"iat": "today"},
        {"iat": True},
        {"nbf": FromNow(1)},
        {"crit": ["b64"]},
        {"typ": "id+jwt"},
        {"typ": "dpop+jwt"},
        {"kid": "two"},
        {"kid": "shared", "key": "secret" * 8},
        {"key": rsa.generate_private_key(65_537, 2_048)},
    ],
)
async def test_a_token_that_proves_nothing_to_us_lets_nobody_in(federated: Federated, changed: dict[str, Any]) -> None:
    answer = await federated.house.call(federated.issuer.token(federated.house, **changed))
    assert answer.status_code == 401
    assert await federated.house.replica.log.live("client/build_bot/") == []


@pytest.mark.parametrize(
    "changed",
    [{"iat": FromNow(30)}, {"iat": FromNow(-200)}, {"iat": None}, {"nbf": FromNow(0)}, {"may_act": {"sub": "x"}}],
)
async def test_a_token_up_to_the_bit_that_refuses_the_others_lets_its_client_in(
    federated: Federated, changed: dict[str, Any]
) -> None:
    assert (await federated.house.call(federated.issuer.token(federated.house, **changed))).status_code == 200


async def test_an_issuer_may_know_a_client_by_a_subject_that_the_operator_names(federated: Federated) -> None:
    federated.tokens._section = federated.tokens._section.model_copy(update={"subjects": {"build_bot": "7f3a"}})
    house, issuer = federated.house, federated.issuer
    assert (await house.call(issuer.token(house, sub="7f3a"))).status_code == 200
    assert (await house.call(issuer.token(house, sub="build_bot"))).status_code == 401


async def test_a_token_of_the_issuer_is_no_bearer_under_another_scheme(federated: Federated) -> None:
    token = federated.issuer.token(federated.house)
    assert (await federated.house.call(token, scheme="DPoP")).status_code == 401
    assert (await federated.house.call(token)).status_code == 200


async def test_a_token_without_scopes_may_do_nothing(federated: Federated) -> None:
    answer = await federated.house.call(federated.issuer.token(federated.house, scope=None))
    assert answer.status_code == 403


async def test_keys_are_kept_and_asked_for_again_only_now_and_then(federated: Federated) -> None:
    house, issuer, clock = federated.house, federated.issuer, federated.house.replica.clock
    assert await federated.tokens.client_of(issuer.token(house)) is not None
    for n in range(5):
        assert await federated.tokens.client_of(issuer.token(house, kid=f"unknown-{n}")) is None
    assert issuer.asked == 1
    clock.pass_(60)
    issuer.keys["two"] = RSA
    assert await federated.tokens.client_of(issuer.token(house, kid="two")) is not None
    assert issuer.asked == 2
    clock.pass_(600)
    del issuer.keys["one"]
    assert await federated.tokens.client_of(issuer.token(house)) is None
    assert issuer.asked == 3


@pytest.mark.parametrize("spoilt", ["error", "large", "nonsense", "elsewhere"])
async def test_without_the_issuers_keys_nobody_is_let_in_and_nobody_is_called_wrong(
    federated: Federated, spoilt: str
) -> None:
    answers = {
        "error": Response("no", 500),
        "large": Response(b" " * (MAX_KEYS_BYTES + 1)),
        "nonsense": Response("[]"),
        "elsewhere": RedirectResponse("http://127.0.0.1:1/keys"),
    }
    federated.issuer.answer = answers[spoilt]
    token = federated.issuer.token(federated.house)
    with pytest.raises(Unavailable, match="cannot be had"):
        await federated.tokens.client_of(token)
    answer = await federated.house.call(token)
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert federated.issuer.asked == 1


def test_an_issuers_keys_do_not_travel_in_clear() -> None:
    for url in ("http://issuer.example/keys", "file:///keys", "ftp://127.0.0.1/keys"):
        with pytest.raises(ConfigError, match="keys_url"):
            IssuerTokens(IssuerSection(url="https://issuer.example", keys_url=url), "x", HandClock())
