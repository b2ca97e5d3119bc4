"""[prometheus] in flyball.toml: what is refused before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from controller.adapters.edge_client import EdgeLink, EdgeTelemetry
from controller.adapters.prometheus import PrometheusTelemetry
from controller.domain.events import Label
from controller.embedded import telemetry_of
from controller.errors import ConfigError
from controller.settings import parse

SERVICE = {"name": "shop", "start": ["x"], "telemetry": "prometheus"}
URL = {"url": "http://127.0.0.1:9090"}


def written(prometheus: dict[str, Any], **rollout: int) -> dict[str, Any]:
    return {"service": SERVICE, "prometheus": prometheus, "rollout": rollout}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (written({}), r"prometheus\.url is not set.*Set it"),
        (written({**URL, "scrape_seconds": 15}), r"rollout\.window_ms is 10000, shorter .* = 15.*30000 or more"),
        (written(URL, window_ms=9_999), r"rollout\.window_ms is 9999"),
        (written({**URL, "scrape_seconds": 0}), r"prometheus\.scrape_seconds is 0"),
        (written({**URL, "requests": "a b"}), r"prometheus\.requests is 'a b'"),
        (written({**URL, "requests": 'up{job="x"}'}), r"prometheus\.requests"),
        (written({**URL, "version_label": "service.version"}), r"prometheus\.version_label is 'service\.version'"),
        (written({**URL, "errors": []}), r"prometheus\.errors is \[\]"),
        (written({**URL, "errors": ["status"]}), r"prometheus\.errors\.0 is 'status'"),
        (written({**URL, "only": ['x="a"\ny="b"']}), r"prometheus\.only\.0"),
        (written({**URL, "latency_unit": "us"}), r"prometheus\.latency_unit is 'us'"),
        (written({**URL, "token": "s"}), r"prometheus\.token is not a setting.*token_env"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        parse(raw)


def test_section_is_not_looked_at_where_another_source_is_chosen() -> None:
    assert parse({"service": {**SERVICE, "telemetry": "otlp"}}).prometheus.url == ""


async def test_chosen_source_is_wired_and_another_is_not(tmp_path: Any) -> None:
    edge = EdgeLink(tmp_path, None)
    chosen = telemetry_of(parse(written(URL)), edge, Label.LIVE)
    assert isinstance(chosen, PrometheusTelemetry)
    assert chosen.source == "Prometheus' samples of http_server_request_duration_seconds_count"
    await chosen.close()
    assert isinstance(
        telemetry_of(parse({"service": {**SERVICE, "telemetry": "auto"}}), edge, Label.LIVE), EdgeTelemetry
    )
    await edge.close()


def test_token_that_is_not_in_the_environment_is_missed_by_name(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"prometheus\.token_env is 'PROMETHEUS_TOKEN'.*not set"):
        telemetry_of(parse(written({**URL, "token_env": "PROMETHEUS_TOKEN"})), EdgeLink(tmp_path, None), Label.LIVE)
