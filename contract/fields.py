"""The rule of each field, as a type that both sides validate with."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Final, NotRequired, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from pydantic_core import core_schema
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

QUANTITY_LIMIT: Final = Decimal(10) ** 17
QUANTITY_DECIMALS: Final = 9

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_JSON_NUMBER_MAX_LENGTH = 64
_PLAIN_QUANTITY = re.compile(r"-?(?:0|[1-9][0-9]{0,16})(?:\.[0-9]{1,9})?", re.ASCII)
"""What breaks no rule, as it stands; most quantities are like that."""
_FINEST = Decimal(1).scaleb(-QUANTITY_DECIMALS)
_EXACT = Context(prec=34, traps=[Inexact, InvalidOperation])
_ZERO = Decimal(0)

_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_RFC3339_MAX_LENGTH = 35
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_OBJECT_ID = re.compile(r"[0-9a-f]{24}", re.ASCII | re.IGNORECASE)
_CANONICAL_UUID = r"^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"

# The pattern of the HTML standard, section "Valid e-mail address".
_EMAIL = (
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$"
)

PROPERTIES_LIMIT: Final = 50
_PROPERTY_NAME = re.compile(r"[^.$\x00]{1,40}")
_PROPERTY_TEXT_LIMIT = 500
_INT64 = (-(2**63), 2**63 - 1)

# For patterns in JSON Schema, which have no categories: what is trimmed, category Cc, and what else does not print
# (of the rarer format characters and the unassigned code points only the validator knows).
_SPACE = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_INVISIBLE = r"\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufeff"

PropertyValue = str | bool | int | Decimal
FieldsT = TypeVar("FieldsT")


def is_object_id(project_id: str) -> bool:
    """Whether a project id is stored as a MongoDB ObjectId: 24 hexadecimal digits."""
    return len(project_id) == 24 and _OBJECT_ID.fullmatch(project_id) is not None  # noqa: PLR2004 - as said above


def fold_object_id(project_id: str) -> str:
    """Lower-case a project id that is an ObjectId, so that one project has one spelling."""
    return project_id.lower() if is_object_id(project_id) else project_id


def parse_quantity(value: object) -> Decimal:
    """Return a JSON number, or a string that is one, exactly; raise ValueError for anything else.

    The result has 0 to 9 decimals and is below 10^17 in size, so that a Decimal128 total, which has 34 digits,
    cannot round before 10^8 of the largest events.
    """
    if isinstance(value, str):
        if _PLAIN_QUANTITY.fullmatch(value):
            return Decimal(value) or _ZERO
        value = _parse_number_text(value)
    elif type(value) is Decimal:
        if _PLAIN_QUANTITY.fullmatch(str(value)):
            return value or _ZERO
    elif type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite() or not -QUANTITY_LIMIT < value < QUANTITY_LIMIT:
        raise ValueError
    if not value:
        return _ZERO
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - it is finite
    if -QUANTITY_DECIMALS <= exponent <= 0:
        return value
    try:
        return value.quantize(_FINEST if exponent < 0 else Decimal(1), context=_EXACT)
    except DecimalException as exc:
        raise ValueError from exc


def _parse_number_text(text: str) -> Decimal:
    if len(text) > _JSON_NUMBER_MAX_LENGTH or not _JSON_NUMBER.fullmatch(text):
        raise ValueError
    try:
        return Decimal(text)
    except DecimalException as exc:
        raise ValueError from exc  # an exponent beyond what Decimal can hold


def parse_timestamp(value: object) -> datetime:
    """Return an RFC 3339 time with an offset as UTC, truncated to milliseconds; raise ValueError for anything else.

    1970 <= t < 2200 is all that is asked here: a clock that is wrong must not park what was answered with 200.
    """
    if not isinstance(value, str) or len(value) > _RFC3339_MAX_LENGTH:
        raise ValueError
    return _parse_timestamp_text(value)


# What travels together was received together: few texts, many times.
@lru_cache(maxsize=1024)
def _parse_timestamp_text(text: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise ValueError
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as exc:
        raise ValueError from exc  # year 1 with a positive offset
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError
    return truncate(moment)


def truncate(moment: datetime) -> datetime:
    """Drop what is finer than a millisecond, the resolution of a BSON date."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def current_time() -> datetime:
    """The time in UTC to the millisecond."""
    return _moment(time.time_ns() // 1_000_000)


# At a high rate many events share a millisecond: these two keep what they have made of the last.
@lru_cache(maxsize=1)
def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@lru_cache(maxsize=64)
def format_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as it stands in messages and answers."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_properties(value: object) -> dict[str, PropertyValue]:
    """Return a flat object of at most 50 strings, booleans and numbers; raise ValueError for anything else."""
    if not isinstance(value, dict) or len(value) > PROPERTIES_LIMIT:
        raise ValueError
    return {_property_name(name): _property_value(item) for name, item in value.items()}


def _property_name(name: object) -> str:
    if not isinstance(name, str) or not _PROPERTY_NAME.fullmatch(name):
        raise ValueError
    return name


def _property_value(value: object) -> PropertyValue:
    if isinstance(value, str):
        if len(value) > _PROPERTY_TEXT_LIMIT:
            raise ValueError
        return value
    if isinstance(value, bool) or (isinstance(value, int) and _INT64[0] <= value <= _INT64[1]):
        return value
    if isinstance(value, Decimal):
        number = parse_quantity(value)
        # 1 and 1.0 are one number, so they are stored as one type.
        return int(number) if number == number.to_integral_value() else number
    raise ValueError


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


ProjectId = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$"), AfterValidator(fold_object_id)
]
Email = Annotated[str, StringConstraints(strict=True, max_length=254, pattern=_EMAIL, to_lower=True)]
Metric = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=128, pattern=r"^\P{Cc}*$"),
    # The rule as seen before trimming.
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^[{_SPACE}]*[^{_SPACE}{_CONTROL}]([^{_CONTROL}]{{0,126}}[^{_SPACE}{_CONTROL}])?[{_SPACE}]*$",
        }
    ),
]
Quantity = Annotated[
    Decimal,
    PlainValidator(parse_quantity),
    WithJsonSchema(
        {
            "anyOf": [
                # Most readers go through float, where the largest quantities become the limit itself.
                {"type": "number", "minimum": -int(QUANTITY_LIMIT), "maximum": int(QUANTITY_LIMIT)},
                {"type": "string", "maxLength": _JSON_NUMBER_MAX_LENGTH, "pattern": f"^{_JSON_NUMBER.pattern}$"},
            ]
        }
    ),
]
IdempotencyKey = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=255),
    AfterValidator(_printable),
    Field(json_schema_extra={"pattern": f"^[^{_CONTROL}{_INVISIBLE}]*$"}),
]
Timestamp = Annotated[
    datetime,
    PlainValidator(parse_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_RFC3339.pattern}$"}),
]
Properties = Annotated[
    dict[str, PropertyValue],
    PlainValidator(parse_properties),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": PROPERTIES_LIMIT,
            "propertyNames": {"pattern": f"^{_PROPERTY_NAME.pattern}$"},
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": _PROPERTY_TEXT_LIMIT},
                    {"type": "boolean"},
                    {"type": "number", "minimum": _INT64[0], "maximum": _INT64[-1]},
                ]
            },
        }
    ),
]
EventId = Annotated[
    UUID,
    # The library alone would also take braces, no hyphens, and "urn:uuid:".
    GetPydanticSchema(
        lambda _, handler: core_schema.chain_schema(
            [core_schema.str_schema(strict=True, pattern=_CANONICAL_UUID), handler(UUID)]
        )
    ),
    WithJsonSchema({"type": "string", "format": "uuid", "pattern": _CANONICAL_UUID}),
]

RULES: Final[Mapping[str, str]] = {
    "projectId": "must be 1 to 64 letters, digits, '_' or '-'",
    "email": "must be one e-mail address of at most 254 characters, like name@example.com",
    "metric": "must be 1 to 128 characters without control characters, like api_calls",
    "quantity": "must be a number, or a string that is a JSON number, below 10^17 in size with at most 9 decimals",
    "idempotencyKey": "must be a string of 1 to 255 printable characters",
    "timestamp": "must be an RFC 3339 time with an offset, like 2026-01-31T12:00:00Z",
    "properties": "must be a flat object of at most 50 strings, booleans or numbers, with names of 1 to 40 characters "
    "that hold no '.', '$' or NUL, and strings of at most 500 characters",
    "id": "must be a UUID like d756084a-f7a0-51e2-96e1-80b49e81eaae",
    "receivedAt": "must be an RFC 3339 time with an offset, like 2026-01-31T12:00:00Z",
}
"""What each field must be, in a sentence that says what to fix."""


class Fields(TypedDict):
    """The fields a sender fills in, by their names on the wire; one that stands there is never null."""

    email: Email
    metric: Metric
    quantity: Quantity
    idempotencyKey: NotRequired[IdempotencyKey]
    timestamp: NotRequired[Timestamp]
    properties: NotRequired[Properties]


def strict_adapter(fields: type[FieldsT]) -> TypeAdapter[FieldsT]:
    """Return an adapter for exactly these fields: anything else in the object is an error."""
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(fields))


def strict_validator(fields: type[FieldsT]) -> Callable[[object], FieldsT]:
    """Return what checks an object for exactly these fields, and raises ValidationError.

    Without the adapter's own method around it, which passes on a dozen options that nobody has set.
    """
    validate: Callable[[object], FieldsT] = strict_adapter(fields).validator.validate_python
    return validate


def json_schema(fields: type[Any]) -> dict[str, Any]:
    """The same validator as JSON Schema 2020-12, as far as that can say it: it never refuses what the rules take."""
    schema = strict_adapter(fields).json_schema()
    return {
        "type": "object",
        "additionalProperties": schema["additionalProperties"],
        "required": schema["required"],
        "properties": {
            name: {"description": RULES[name], **{k: v for k, v in rule.items() if k != "title"}}
            for name, rule in schema["properties"].items()
        },
    }
