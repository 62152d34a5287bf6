"""What is wrong with fields that were refused, in sentences that say what to fix."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contract.fields import RULES

EXPLAINED_FIELDS: Final = 20


def explain(error: ValidationError, fields: type[Any]) -> dict[str, str]:
    """Say for each wrong field what it must be: field name -> sentence without the name.

    `fields` is the TypedDict that was validated; an unknown field is compared with its names. A body full of unknown
    fields must not cost us more than it cost its sender: beyond 20 fields nothing is said.
    """
    details = error.errors(include_url=False, include_context=False)[:EXPLAINED_FIELDS]
    return {_field_of(detail): _sentence(detail, fields.__annotations__) for detail in details}


def _field_of(detail: ErrorDetails) -> str:
    return str(detail["loc"][0]) if detail["loc"] else "body"


def _sentence(detail: ErrorDetails, known: Iterable[str]) -> str:
    if not detail["loc"]:
        return "must be a JSON object"
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        return f"is required: it {RULES[name]}"
    if detail["type"] == "extra_forbidden":
        nearest = get_close_matches(name, known, n=1)
        return "is not a known field" + (f"; did you mean {nearest[0]}?" if nearest else "")
    return RULES[name]
