from datetime import UTC, datetime
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from rich.console import Console
from typer.testing import CliRunner

import ingest.vitals
import worker.vitals
from runtime.metrics import SECONDS, expose, new_registry
from worker.commands import app
from worker.operate.numbers import INGEST, WORKER, spell_count, spell_seconds
from worker.operate.sample import Process, Sample
from worker.operate.screen import draw
from worker.operate.sources import Away, Queues
from worker.operate.window import Labels, Look, Window, parse_samples


class Metered:
    """A process's numbers, which a test moves."""

    def __init__(self, started: float = 1) -> None:
        self.registry = CollectorRegistry()
        self.count = Counter("usage_things", "Things.", ["code"], registry=self.registry)
        self.seconds = Histogram("usage_seconds", "Seconds.", buckets=SECONDS, registry=self.registry)
        self._started = started

    def look(self, at: float) -> Look:
        samples = parse_samples(expose(self.registry).decode())
        return Look(at, {**samples, "process_start_time_seconds": {(): self._started}}, {})


def test_a_rate_is_the_growth_of_all_labels_together() -> None:
    metered = Metered()
    metered.count.labels("A").inc(100)
    before = metered.look(10)
    metered.count.labels("A").inc(4)
    metered.count.labels("B").inc(2)
    assert Window(before, metered.look(12)).rate("usage_things_total") == 3


def test_a_process_that_was_started_anew_counts_from_zero() -> None:
    old, new = Metered(started=1), Metered(started=2)
    old.count.labels("A").inc(5)
    new.count.labels("A").inc(8)
    assert Window(old.look(0), new.look(2)).rate("usage_things_total") == 4


def test_what_was_observed_before_does_not_count() -> None:
    metered = Metered()
    metered.seconds.observe(200)
    before = metered.look(0)
    metered.seconds.observe(0.1)
    metered.seconds.observe(0.3)
    window = Window(before, metered.look(1))
    assert window.mean("usage_seconds") == pytest.approx(0.2)
    assert window.quantile("usage_seconds", 1) == 0.5


@given(st.lists(st.floats(0, 299), min_size=1, max_size=50), st.sampled_from([0.01, 0.5, 0.99, 1]))
def test_a_quantile_lies_in_the_bucket_of_the_observation_that_it_is(values: list[float], share: float) -> None:
    metered = Metered()
    before = metered.look(0)
    for value in values:
        metered.seconds.observe(value)
    rank = next(n for n in range(1, len(values) + 1) if n >= share * len(values))
    true = sorted(values)[rank - 1]
    low = max((bound for bound in SECONDS if bound < true), default=0)
    high = min(bound for bound in SECONDS if bound >= true)
    told = Window(before, metered.look(1)).quantile("usage_seconds", share)
    assert told is not None
    assert low - 1e-9 <= told <= high + 1e-9


def test_what_is_beyond_all_buckets_is_told_as_the_last_bound() -> None:
    metered = Metered()
    before = metered.look(0)
    metered.seconds.observe(1000)
    assert Window(before, metered.look(1)).quantile("usage_seconds", 0.5) == SECONDS[-1]


def test_of_the_first_look_and_of_silence_nothing_is_said() -> None:
    metered = Metered()
    metered.count.labels("A").inc()
    first = Window(None, metered.look(0))
    silent = Window(metered.look(0), metered.look(1))
    assert (first.seconds, first.rate("usage_things_total"), first.mean("usage_seconds")) == (None, None, None)
    assert (silent.rate("usage_things_total"), silent.mean("usage_seconds")) == (0, None)
    assert (first.quantile("usage_seconds", 0.5), silent.quantile("usage_seconds", 0.5)) == (None, None)
    assert (first.value("usage_things_total"), first.value("usage_nonsense")) == (1, None)


def real(kind: type[ingest.vitals.Vitals | worker.vitals.Vitals], url: str) -> Process:
    registry = new_registry()
    kind(registry)
    look = Look(0, parse_samples(expose(registry).decode()), {})
    return Process(url, Window(look, Look(1, look.samples, {})))


IDLE = Sample(
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    Queues(7, 1, 0),
    [real(ingest.vitals.Vitals, "http://127.0.0.1:9101")],
    [real(worker.vitals.Vitals, "http://127.0.0.1:9102"), Process("http://127.0.0.1:9103", Away("nobody is there"))],
)


def test_every_number_is_one_that_the_processes_have() -> None:
    for process, numbers in ((IDLE.ingest[0], INGEST), (IDLE.worker[0], WORKER)):
        assert isinstance(process.window, Window)
        for number in numbers:
            value = number.read(process.window)
            is_of_a_histogram = number.name.startswith(("lag", "confirm", "events", "seconds"))
            assert value is None if is_of_a_histogram else value == 0, number.name


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_a_narrow_screen_shows_less_and_cuts_nothing(width: int) -> None:
    out = StringIO()
    Console(file=out, width=width).print(draw(IDLE, width))
    lines = out.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "…" not in out.getvalue()
    heading = next(line for line in lines if line.startswith("WORKER")).split()
    wanted = ["WORKER", "STATE", *" ".join(number.heading for number in WORKER).split()]
    assert heading == wanted[: len(heading)]
    assert ("PREFETCH" in heading) == (width >= 200)


def test_what_is_wrong_with_a_process_is_its_state() -> None:
    samples: dict[str, dict[Labels, float]] = {"usage_breaker_open": {(): 1}, "usage_safe_mode": {(): 1}}
    broken = Look(0, samples, {"breaker": "open: …", "database": "does not answer"})
    assert Process("u", Window(None, broken)).state == "safe mode, breaker open, no database"
    assert [one.state for one in IDLE.worker] == ["ready", "away: nobody is there"]


@pytest.mark.parametrize(
    ("value", "spelt"), [(0, "0"), (0.25, "0.2"), (9.96, "10.0"), (7, "7"), (12.5, "12"), (1234567.8, "1,234,568")]
)
def test_a_count_is_spelt_as_long_as_it_needs(value: float, spelt: str) -> None:
    assert spell_count(value) == spelt


@pytest.mark.parametrize(("value", "spelt"), [(0.0004, "0.4 ms"), (0.9994, "999.4 ms"), (1, "1.00 s"), (75, "75.00 s")])
def test_seconds_are_spelt_in_a_unit_that_fits(value: float, spelt: str) -> None:
    assert spell_seconds(value) == spelt


@pytest.mark.parametrize("url", ["9102", "127.0.0.1:9102", "amqp://127.0.0.1", "http://", "http://[::"])
def test_what_is_no_url_is_wrong_usage(url: str) -> None:
    ended = CliRunner().invoke(app, ["top", "--worker", url])
    assert ended.exit_code == 2
    assert "it must be a URL" in ended.stderr
