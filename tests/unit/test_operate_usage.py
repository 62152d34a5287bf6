from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from worker.commands import app
from worker.operate import arguments
from worker.operate.periods import Period
from worker.operate.usage import Usage
from worker.operate.usage_view import aligned, to_chart, to_table


def on(day: int, quantity: str, *, month: int = 1, metric: str = "calls") -> Usage:
    return Usage("p", "a@example.com", metric, datetime(2026, month, day, tzinfo=UTC), Decimal(quantity), 1)


def printed(what: Any, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (["1", "20", "-3"], [" 1", "20", "-3"]),
        (["1", "-20.5", "3.125"], ["  1    ", "-20.5  ", "  3.125"]),
        (["1234567.89", "1E+3"], ["1,234,567.89", "    1,000   "]),
    ],
)
def test_points_stand_below_each_other(numbers: Sequence[str], expected: list[str]) -> None:
    assert aligned([Decimal(one) for one in numbers]) == expected


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert "[red]x\\u202e" in printed(to_table([on(1, "1", metric="[red]x\u202e")], None), 200)[1]


def test_no_digit_is_folded_or_cut_on_a_narrow_terminal() -> None:
    narrow = printed(to_table([on(1, "-12345678901234567.123456789")], Period.DAY), 60)
    assert any("-12,345,678,901,234,567.123456789" in line for line in narrow)


def test_a_chart_shows_corrections_to_the_left_and_periods_without_usage() -> None:
    lines = printed(to_chart([on(30, "-1"), on(31, "2"), on(2, "1", month=2)], Period.DAY), 80)
    assert [line[:10] for line in lines] == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert [line.split()[-1] for line in lines] == ["-1", "2", "0", "1"]
    zero = lines[1].index("█")
    assert "█" in lines[0][:zero]
    assert "█" not in lines[0][zero + 1 :]
    assert "█" not in lines[2]
    assert lines[1].count("█") == pytest.approx(2 * lines[3].count("█"), abs=1)


def test_a_chart_of_nothing_but_zero_has_no_bars() -> None:
    assert printed(to_chart([on(1, "0")], Period.DAY), 40) == ["2026-01-01" + " " * 29 + "0"]


@pytest.mark.parametrize(
    ("period", "start", "after", "name"),
    [
        (Period.HOUR, datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), "2026-12-31T23:00Z"),
        (Period.DAY, datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC), "2028-02-28"),
        (Period.MONTH, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), "2026-01"),
        (Period.MONTH, datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), "2026-12"),
    ],
)
def test_a_period_has_a_name_and_a_next(period: Period, start: datetime, after: datetime, name: str) -> None:
    assert (period.after(start), period.spell(start)) == (after, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.000+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_an_hour_is_a_date_or_a_time(text: str, expected: datetime) -> None:
    assert arguments.hour(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-1-31", "2026-02-30", "2026-01-31T12:00:00", "2026-01-31T12:30:00Z", "20260131T12Z"]
)
def test_what_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        arguments.hour(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("", "Missing option '--project'"),
        ("--project a/b", "'--project': it must be 1 to 64 letters"),
        ("--project p --email nobody", "'--email': it must be one e-mail address"),
        ("--project p --from 2026-01-31T12:30:00Z", "'--from': usage is summed up by the hour"),
        ("--project p --from 2026-02-01 --to 2026-02-01", "--to: it must be later than --from"),
        ("--project p --csv --json", "--csv, --json, --chart: only one of these"),
        ("--project p --chart", "--chart: give --by, too"),
    ],
)
def test_wrong_usage_is_a_sentence(options: str, complaint: str) -> None:
    ended = CliRunner().invoke(app, ["totals", *options.split()])
    assert ended.exit_code == 2
    assert complaint in ended.stderr
