import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from contract.event import Reason, Rejected, Source
from contract.incident import Incident
from contract.origin import Origin
from worker.parking_log import ParkingLog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def incident(clock: Clock) -> Incident:
    return Incident("broker lost", "broker ready", clock=clock)


def told(lines: list[Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["log_level"] != "debug"]


def test_an_outage_is_one_warning_and_one_line_when_it_is_over(incident: Incident, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(40):
            incident.note(error="refused")
            clock.now += 0.5
        assert incident.end()
    assert told(lines) == [
        {"event": "broker lost", "log_level": "warning", "error": "refused"},
        {"event": "broker ready", "log_level": "info", "seconds": 20.0, "failures": 40},
    ]
    assert len(lines) == 41


def test_one_that_lasts_is_told_again_each_minute(incident: Incident, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(150):
            incident.note(error="refused")
            clock.now += 1
    assert [line.get("seconds") for line in told(lines)] == [None, 60.0, 120.0]
    assert told(lines)[1]["failures"] == 61


def test_one_that_comes_and_goes_is_told_once_in_ten_seconds_with_their_number(
    incident: Incident, clock: Clock
) -> None:
    with capture_logs() as lines:
        for _ in range(50):
            incident.note(error="refused")
            clock.now += 0.1
            assert incident.end()
            clock.now += 0.15
    assert [(line["event"], line.get("untold")) for line in told(lines)] == [
        ("broker lost", None),
        ("broker ready", None),
        ("broker lost", 39),
        ("broker ready", None),
    ]


def test_one_that_began_untold_and_lasts_is_told_after_all(incident: Incident, clock: Clock) -> None:
    with capture_logs() as lines:
        incident.note()
        incident.end()
        for _ in range(30):
            clock.now += 0.5
            incident.note()
        incident.end()
    assert [line["event"] for line in told(lines)] == ["broker lost", "broker ready"] * 2
    assert told(lines)[2]["seconds"] == 9.5


def test_where_nothing_was_wrong_nothing_is_over(incident: Incident) -> None:
    with capture_logs() as lines:
        assert not incident.end()
    assert lines == []


def letter(reason: Reason, request: str | None = None) -> Rejected:
    return Rejected(b'{"email": "a@b.co"}', Source.HTTP, reason, "email: a@b.co", Origin("p:1", request))


def test_dead_letters_are_told_of_by_reason_with_the_last_of_them(clock: Clock) -> None:
    log = ParkingLog(clock=clock)
    with capture_logs() as lines:
        log.note({"k1": letter(Reason.INVALID), "k2": letter(Reason.CONFLICT, "x")})  # type: ignore[dict-item]
    each, warning = lines[:2], lines[2]
    assert [line["log_level"] for line in each] == ["debug", "debug"]
    assert warning == {
        "event": "parked",
        "log_level": "warning",
        "letters": 2,
        "reasons": {"INVALID": 1, "CONFLICT": 1},
        "key": "k2",
        "stamp": "p:1",
        "request_id": "x",
    }
    assert "a@b.co" not in json.dumps(lines)


def test_many_dead_letters_are_one_line_in_ten_seconds_and_none_is_left_untold(clock: Clock) -> None:
    log = ParkingLog(clock=clock)
    with capture_logs() as lines:
        for number in range(100):
            log.note({f"k{number}": letter(Reason.INVALID)})  # type: ignore[dict-item]
            clock.now += 0.25
        log.tell_if_due()
        clock.now += 10
        log.tell_if_due()
        log.tell_if_due()
        log.tell()
    assert [line["letters"] for line in told(lines)] == [1, 40, 40, 19]
