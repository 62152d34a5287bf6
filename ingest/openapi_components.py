"""What the operations of the OpenAPI document refer to."""

from typing import Any, Final

from contract.fields import Fields, json_schema
from ingest.errors import ANSWERS, REQUEST_ID_RULE
from ingest.signatures import SIGNATURE_HEADERS

Object = dict[str, Any]
"""A part of the document."""

REQUEST_ID_PATTERN: Final = f"^{REQUEST_ID_RULE.pattern}$"


def closed(properties: Object) -> Object:
    """Return the schema of an object that has these properties, and no other."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def exactly(value: Object) -> Object:
    """Return the schema of one object alone."""
    return closed({name: {"const": item} for name, item in value.items()})


def ref(kind: str, name: str) -> Object:
    """Refer to a component: of a kind as COMPONENTS names them, by its name there."""
    return {"$ref": f"#/components/{kind}/{name}"}


def _header(description: str, **schema: object) -> Object:
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


_SENTENCES: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_DETAILS: Final = {"anyOf": [_SENTENCES, {"type": "string"}], "description": "For each wrong field what it must be."}
_CODE: Final = {"type": "string", "enum": list(dict.fromkeys(answer.code for answer in ANSWERS.values()))}

_ERROR: Final = closed(
    {
        "error": {"type": "string", "description": "A sentence that says what to do."},
        "code": _CODE,
        "details": _DETAILS,
        "timestamp": {"type": "string", "format": "date-time"},
        "path": {"type": "string"},
        "requestId": {"type": "string", "pattern": REQUEST_ID_PATTERN},
    }
)

_BATCH_REPORT: Final = closed(
    {
        "accepted": {"type": "integer", "minimum": 1},
        "rejected": {"type": "integer", "minimum": 0},
        "errors": {
            "type": "array",
            "items": closed({"index": {"type": "integer", "minimum": 0}, "code": _CODE, "details": _DETAILS}),
        },
    }
)

_HEADERS: Final = {
    "X-Request-Id": _header("The request's id, as in an error's requestId.", pattern=REQUEST_ID_PATTERN),
    "Usage-Id": _header("The event's id.", format="uuid"),
    "Retry-After": _header("Seconds after which to try again.", pattern="^[0-9]+$"),
    "Allow": _header("The methods that this path has."),
    "WWW-Authenticate": _header("The credentials that are taken."),
    "RateLimit": _header("What is left of the limit: records, and seconds until there are more."),
    "RateLimit-Policy": _header("The limit: records, and seconds to regain them."),
}

_SECURITY_SCHEMES: Final[Object] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    **{
        name: {"type": "apiKey", "in": "header", "name": name, "description": "A signature by Standard Webhooks."}
        for name in SIGNATURE_HEADERS
    },
}

COMPONENTS: Final[Object] = {
    "schemas": {"Record": json_schema(Fields), "Error": _ERROR, "BatchReport": _BATCH_REPORT},
    "headers": _HEADERS,
    "securitySchemes": _SECURITY_SCHEMES,
}
