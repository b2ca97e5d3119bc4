from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from shop import __main__ as program
from shop import faults
from shop.app import create_app
from shop.faults import AT_REQUESTS, OUTAGE_SHARE, SLOWER_S, TAIL_S, Faulty, Switchboard, UnknownFaultError, wire
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

TIMES = 20_000


def failures(fault: str, route: str) -> list[bool]:
    switches = Switchboard((fault,), {})
    return [switches.fails(switches.now(), route) is not None for _ in range(TIMES)]


def delays(fault: str) -> list[float]:
    switches = Switchboard((fault,), {})
    return [switches.delay_s(switches.now()) for _ in range(TIMES)]


def test_errors_on_one_route_leave_the_others_alone() -> None:
    assert 0.28 < sum(failures("errors-on-one-route", "/cart/price")) / TIMES < 0.32
    assert not any(failures("errors-on-one-route", "/orders"))


def test_outage_fails_half_of_everything() -> None:
    assert 0.48 < sum(failures("outage", "/products")) / TIMES < 0.52


def test_noise_comes_in_bursts() -> None:
    fails = failures("noise", "/products")
    again = sum(before and now for before, now in pairwise(fails)) / sum(fails)
    assert 0.005 < sum(fails) / TIMES < 0.015
    assert 0.35 < again < 0.65


def test_slow_median_slows_every_request() -> None:
    assert set(delays("slow-median")) == {SLOWER_S}


def test_slow_tail_slows_one_request_in_fifty_by_a_second() -> None:
    slow = [delay for delay in delays("slow-tail") if delay]
    assert set(slow) == {TAIL_S}
    assert 0.015 < len(slow) / TIMES < 0.025


def test_switched_on_fault_is_an_error_of_its_route_and_health_stays_well(
    monkeypatch: pytest.MonkeyPatch, cart: dict[str, Any]
) -> None:
    monkeypatch.setattr(faults, "FAILING_SHARE", 1.0)
    app = wire(create_app(), Switchboard((), {"SHOP_FAULTS": "errors-on-one-route"}))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.post("/cart/price", json=cart).status_code == 500
    assert client.post("/orders", json=cart).status_code == 201
    assert client.get("/health").status_code == 200


def test_slow_request_is_kept_waiting_and_then_served() -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    client = TestClient(Faulty(PlainTextResponse("ok"), "/", Switchboard(("slow-median",), {}), pause))
    assert client.get("/").text == "ok"
    assert paused == [SLOWER_S]


def test_file_switches_a_fault_on_and_off_while_the_shop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "LOOK_EVERY_S", 0)
    file = tmp_path / "faults"
    switches = Switchboard((), {"SHOP_FAULTS_FILE": str(file)})
    assert not switches.now()
    file.write_text("outage, noise\n")
    assert switches.now() == {"outage", "noise"}
    file.write_text("")
    assert not switches.now()


def test_unknown_fault_is_refused_by_name() -> None:
    with pytest.raises(UnknownFaultError, match=r"SHOP_FAULTS names \['slow'\]: give some of crash-on-start, "):
        Switchboard((), {"SHOP_FAULTS": "noise,slow"})


def test_file_can_only_switch_what_hits_requests(tmp_path: Path) -> None:
    file = tmp_path / "faults"
    file.write_text("leak")
    with pytest.raises(UnknownFaultError, match=f"give some of {', '.join(sorted(AT_REQUESTS))}"):
        Switchboard((), {"SHOP_FAULTS_FILE": str(file)}).now()


def test_crash_on_start_ends_before_anything_is_served() -> None:
    with pytest.raises(SystemExit, match="crash-on-start"):
        program.main({"SHOP_FAULTS": "crash-on-start"})


def test_two_instances_fail_at_different_times() -> None:
    one, other = (Switchboard(("outage",), {"SERVICE_INSTANCE_ID": name}) for name in ("shop-1-0", "shop-1-1"))
    assert [one.dice.random() < OUTAGE_SHARE for _ in range(64)] != [
        other.dice.random() < OUTAGE_SHARE for _ in range(64)
    ]
