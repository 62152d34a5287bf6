"""What is typed behind an option, held to the rules of the fields that it stands for."""

from datetime import UTC, date, datetime
from typing import Final

import typer
from pydantic import TypeAdapter, ValidationError

from contract.fields import RULES, Email, IdempotencyKey, Metric, ProjectId, parse_timestamp

_RULES: Final[dict[str, TypeAdapter[str]]] = {
    "projectId": TypeAdapter(ProjectId),
    "email": TypeAdapter(Email),
    "metric": TypeAdapter(Metric),
    "idempotencyKey": TypeAdapter(IdempotencyKey),
}


def project(text: str) -> str:
    """Return a project id as it is stored, as all of these do with their fields; raises typer.BadParameter."""
    return _field("projectId", text)


def email(text: str) -> str:
    """Return a customer's address."""
    return _field("email", text)


def metric(text: str) -> str:
    """Return the name of what was metered."""
    return _field("metric", text)


def key(text: str) -> str:
    """Return an idempotency key."""
    return _field("idempotencyKey", text)


def hour(text: str) -> datetime:
    """Return a full hour: of an RFC 3339 time with its offset, or the first of a date, in UTC."""
    moment = _moment(text)
    if (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
        raise typer.BadParameter(f"usage is summed up by the hour (UTC), and {text} is within one")
    return moment


def _moment(text: str) -> datetime:
    try:
        if "T" not in text.upper():
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return parse_timestamp(text)
    except ValueError as exc:
        raise typer.BadParameter(
            "it must be a date, such as 2026-01-31, or a time with its offset, such as 2026-01-31T12:00:00Z"
        ) from exc


def _field(name: str, text: str) -> str:
    try:
        return _RULES[name].validate_python(text)
    except ValidationError as exc:
        raise typer.BadParameter(f"it {RULES[name]}") from exc
