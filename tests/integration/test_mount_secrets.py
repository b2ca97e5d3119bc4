"""The secret of a mounted server: it goes there and nowhere else, whatever the server does with it."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from hostile_servers import OtherServer, answering, said
from mount_kit import CREATE_HERE, FIND_HERE, KEY, MOUNT, Here, beside, holding, running, section, until

from controller.adapters.mount_wire import endpoint
from controller.errors import ConfigError


@pytest.fixture
async def there() -> AsyncIterator[OtherServer]:
    async with running() as server:
        yield server


@pytest.fixture
async def here(there: OtherServer, tmp_path: Path) -> AsyncIterator[Here]:
    async with beside(there, tmp_path) as found:
        yield found


async def test_the_secret_reaches_its_server_and_nobody_else(
    here: Here, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await here.mounted()
    await here.call(FIND_HERE, number=7)
    await here.call(CREATE_HERE, index=1, title="x")
    assert {one["authorization"] for one in here.there.requests} == {f"Bearer {KEY}"}
    assert KEY not in caplog.text
    assert KEY not in repr((here.visible(), vars(here.mount)))
    assert holding(tmp_path, KEY.encode()) == []
    assert KEY not in "".join([repr(entry.event) async for entry in here.world.log.scan()])


ECHOES: dict[str, str] = {
    "as it is": KEY,
    "percent-encoded": "k3y-of%2Fthe%2Btracker%3D0451",
    "hexadecimal": KEY.encode().hex(),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Authorization: Bearer {KEY}!".encode()).decode(),
}


@pytest.mark.parametrize("how", ECHOES)
async def test_a_server_that_echoes_our_secret_is_not_heard_saying_it(here: Here, how: str) -> None:
    echo = ECHOES[how]

    async def answer(_name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        return said(f"<{echo}> called at {here.there.url}", error=arguments["number"] == 2)

    await here.mounted()
    here.there.answer = answer
    for number in (1, 2):
        found = await here.call(FIND_HERE, turn=number, number=number)
        assert found.error == (number == 2)
        assert "[secret]" in found.text
        assert KEY[4:] not in found.text
        assert echo[8:-8] not in found.text
        assert here.there.url not in found.text


RAW_ECHOES: dict[str, tuple[int, dict[str, str], str]] = {
    "a protocol error": (
        200,
        {"content-type": "application/json"},
        '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"%s"}}',
    ),
    "what is no answer": (200, {"content-type": "application/json"}, '{"jsonrpc":"2.0","id":1,"result":"%s"}'),
    "what is no JSON": (200, {"content-type": "application/json"}, "<%s>"),
    "what is no answer, in a stream": (
        200,
        {"content-type": "text/event-stream"},
        'event: message\ndata: {"x":"%s"}\n\n',
    ),
    "a type": (200, {"content-type": "%s"}, "%s"),
    "a failure": (500, {"content-type": "text/plain"}, "%s"),
    "a refusal": (401, {"content-type": "application/json", "www-authenticate": "%s"}, '{"error":"%s"}'),
    "a session": (404, {"mcp-session-id": "%s"}, "%s"),
    "a redirect": (302, {"location": "/%s"}, "%s"),
}


@pytest.mark.parametrize("what", RAW_ECHOES)
async def test_the_secret_is_in_no_log_whatever_a_server_says(
    here: Here, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.INFO)
    status, raw_headers, body = RAW_ECHOES[what]
    headers = {name: value.replace("%s", KEY) for name, value in raw_headers.items()}
    await here.mounted(section(here.there.url, seconds=1))
    for turn, spelt in enumerate((KEY, "".join(f"\\u{ord(c):04x}" for c in KEY))):
        here.there.raw = answering(status, headers, body.replace("%s", spelt).encode())
        found = await here.call(FIND_HERE, turn=turn, number=7)
        assert found.error
        assert KEY not in found.text + caplog.text
        assert here.there.url not in found.text
        await until(lambda: here.mount.usable)
    assert len(here.there.calls) == 2


@pytest.mark.parametrize(
    ("change", "secret", "why"),
    [
        ({"url": "http://tracker.example/mcp"}, KEY, "in clear"),
        ({"url": "https://me:you@tracker.example/mcp"}, KEY, "more than host and path"),
        ({"url": "https://tracker.example/mcp?key=1"}, KEY, "more than host and path"),
        ({"url": "file:///etc/passwd"}, KEY, "url"),
        ({"header": "Host"}, KEY, "header"),
        ({"header": "X\r\nY"}, KEY, "header"),
        ({}, None, "not set"),
        ({}, "short", "8 plain characters"),
        ({}, "line\nline\nline", "8 plain characters"),
    ],
)
def test_a_mount_that_would_give_its_secret_away_is_not_opened(
    change: dict[str, str], secret: str | None, why: str
) -> None:
    wrong = section("https://tracker.example/mcp").model_copy(update=change)
    with pytest.raises(ConfigError, match=why) as error:
        endpoint(MOUNT, wrong, lambda _: secret)
    assert secret is None or secret not in str(error.value)
