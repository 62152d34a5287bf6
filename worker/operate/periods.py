"""Hours, days and months in UTC, which usage is summed up by."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum


class Period(StrEnum):
    """The values are the server's names for the units."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def spell(self, start: datetime) -> str:
        """Name the period that starts then."""
        match self:
            case Period.HOUR:
                return f"{start:%Y-%m-%dT%H:00Z}"
            case Period.DAY:
                return f"{start:%Y-%m-%d}"
            case Period.MONTH:
                return f"{start:%Y-%m}"

    def after(self, start: datetime) -> datetime:
        """The start of the next one."""
        match self:
            case Period.HOUR:
                return start + timedelta(hours=1)
            case Period.DAY:
                return start + timedelta(days=1)
            case Period.MONTH:
                return (start + timedelta(days=31)).replace(day=1)

    def through(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Every start from one to the other, both included."""
        while first <= last:
            yield first
            first = self.after(first)
