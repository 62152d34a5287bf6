"""What requests and answers look like, for the OpenAPI document."""

from typing import Final

from contract.fields import RULES
from ingest.errors import ANSWERS
from ingest.openapi_components import Object
from ingest.record import InvalidRecord

PROJECT: Final = "proj_nCBo0AB7UWpj"
RECORD: Final = {"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}
RECORD_ONCE: Final = {**RECORD, "idempotencyKey": "order-42"}

_WRONG: Final = InvalidRecord({"quantity": RULES["quantity"]})

BATCH_REPORT: Final = {
    "accepted": 2,
    "rejected": 1,
    "errors": [{"index": 1, "code": ANSWERS[InvalidRecord].code, "details": _WRONG.details}],
}


def error(kind: type[Exception], sentence: str, path: str) -> Object:
    """The body of the answer to an exception, at a path of which parameters may be a part."""
    is_wrong = kind is InvalidRecord
    return {
        "error": str(_WRONG) if is_wrong else sentence,
        "code": ANSWERS[kind].code,
        "details": _WRONG.details if is_wrong else {},
        "timestamp": "2026-01-31T12:00:00.000Z",
        "path": path.replace("{projectId}", PROJECT),
        "requestId": "01a2076b-9126-7792-af41-901041684b3e",
    }


def named(*values: object) -> Object:
    """Examples, as OpenAPI wants them: each with a name."""
    return {f"example{number}": {"value": value} for number, value in enumerate(values, 1)}
