"""A record: what a client sends, on its way to becoming an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Self

import msgspec
import uuid_utils.compat as uuid_utils
from pydantic import TypeAdapter, ValidationError

from contract.event import Source, UsageEvent, event_id, parse_json
from contract.explanation import explain
from contract.fields import RULES, Fields, ProjectId, strict_validator

_validate: Final = strict_validator(Fields)
_PROJECT_ID: Final[TypeAdapter[str]] = TypeAdapter(ProjectId)


class InvalidRecord(ValueError):
    """The record breaks the rules; `details` says for each wrong field what it must be."""

    def __init__(self, details: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name} {sentence}" for name, sentence in details.items()))
        self.details = dict(details)


@dataclass(frozen=True, slots=True)
class Window:
    """How far from the time of receipt a timestamp may lie."""

    ahead: timedelta
    back: timedelta

    def check(self, timestamp: datetime, now: datetime) -> None:
        """Raise InvalidRecord for a timestamp outside."""
        if timestamp > now + self.ahead:
            raise InvalidRecord({"timestamp": f"must not lie more than {self.ahead} in the future"})
        if timestamp < now - self.back:
            raise InvalidRecord({"timestamp": f"must not lie more than {self.back} in the past"})


@lru_cache(maxsize=1024)
def parse_project_id(text: str) -> str:
    """Return the project id of a path as it is stored; raises InvalidRecord."""
    try:
        return _PROJECT_ID.validate_python(text)
    except ValidationError as exc:
        raise InvalidRecord({"projectId": RULES["projectId"]}) from exc


class Receipt(msgspec.Struct, frozen=True):
    """The circumstances under which records were received: for which project, when, from whom."""

    project_id: str
    at: datetime
    window: Window
    authenticated: bool = False


class Record(msgspec.Struct, frozen=True):
    """What a client sent, with every field checked by itself."""

    fields: Fields

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a record from JSON; raises NotJson, InvalidRecord."""
        return cls.of(parse_json(body))

    @classmethod
    def of(cls, item: object) -> Self:
        """Read a record from parsed JSON; raises InvalidRecord."""
        try:
            return cls(_validate(item))
        except ValidationError as exc:
            raise InvalidRecord(explain(exc, Fields)) from exc

    @property
    def key(self) -> str | None:
        """The idempotency key in the record itself."""
        return self.fields.get("idempotencyKey")

    def accept(self, receipt: Receipt, *, key: str | None) -> UsageEvent:
        """Give the record its identity, for ever: that of `key` within the project, or one of its own.

        Raises InvalidRecord for what only HTTP refuses: a negative quantity from a caller nobody authenticated, and
        a timestamp outside the window.
        """
        fields = self.fields
        if fields["quantity"] < 0 and not receipt.authenticated:
            raise InvalidRecord({"quantity": "must not be negative: a correction needs an authenticated caller"})
        timestamp = fields.get("timestamp")
        if timestamp is not None:
            receipt.window.check(timestamp, receipt.at)
        return UsageEvent(
            id=uuid_utils.uuid7() if key is None else event_id(receipt.project_id, key),
            project_id=receipt.project_id,
            email=fields["email"],
            metric=fields["metric"],
            quantity=fields["quantity"],
            received_at=receipt.at,
            source=Source.HTTP,
            timestamp=timestamp,
            idempotency_key=key,
            properties=fields.get("properties"),
        )
