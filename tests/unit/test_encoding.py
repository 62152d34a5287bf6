from typing import Any
from uuid import UUID

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given
from msgspec.structs import replace

from contract.event import UsageEvent
from tests.unit.test_documents import event, events
from worker import encoding
from worker.documents import CODEC, DocumentRefused, to_document
from worker.encoding import Drafts, Unencodable, encode
from worker.operations import OPERATION_BYTES, OPERATION_DOCUMENTS, in_commands


@given(events)
@example(event(project_id="0123456789abcdefABCDEF01"))
@example(event(metric="a\0b", email="ü@example.com", idempotency_key="\U0001f600"))
@example(event(properties={}))
def test_an_event_is_encoded_as_the_driver_encodes_its_document(event: UsageEvent) -> None:
    assert encode(event).raw == bson.encode(to_document(event), codec_options=CODEC)


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "\ud800"},
        {"email": "\udfff"},
        {"idempotency_key": "\ud800"},
        {"properties": {"n": 2**63}},
        {"properties": {"\0": 1}},
    ],
    ids=["metric", "email", "key", "number", "name"],
)
def test_what_bson_cannot_hold_is_not_encoded(change: dict[str, Any]) -> None:
    with pytest.raises(Unencodable):
        encode(event(**change))


def test_a_draft_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = event(), event(metric="other")
    drafts = Drafts()
    drafts.prepare([one])
    encoded: list[UsageEvent] = []

    def counting(event: UsageEvent) -> RawBSONDocument:
        encoded.append(event)
        return encode(event)

    monkeypatch.setattr(encoding, "encode", counting)

    assert [document["metric"] for document in drafts.of([other, one])] == ["other", one.metric]
    assert encoded == [other]


def test_two_events_of_one_id_have_each_a_draft_of_its_own() -> None:
    one = event()
    other = replace(one, metric="other")
    drafts = Drafts()
    drafts.prepare([one, other])
    assert [document["metric"] for document in drafts.of([one, other])] == [one.metric, "other"]


def test_an_event_never_gets_the_draft_of_one_that_was_dropped() -> None:
    drafts = Drafts()
    # As those of a copy, which a batch does not keep.
    drafts.prepare([event(id=UUID(int=number)) for number in range(100)])
    later = [event(id=UUID(int=number)) for number in range(1000, 1500)]
    documents = [bson.decode(document.raw, CODEC) for document in drafts.of(later)]
    assert [document["_id"] for document in documents] == [event.id for event in later]


def test_the_first_event_that_has_no_document_is_named_by_its_place() -> None:
    bad = event(properties={"n": 2**63})
    drafts = Drafts()
    drafts.prepare([event(), bad])
    with pytest.raises(DocumentRefused) as refused:
        drafts.of([event(), event(), bad, bad])
    assert refused.value.index == 2


def test_a_command_holds_no_more_than_a_server_takes() -> None:
    small, large = encode(event()), encode(event(properties={"note": "x" * (OPERATION_BYTES // 3)}))
    documents = [small] * (OPERATION_DOCUMENTS + 1) + [large] * 5

    parts = list(in_commands(documents))

    assert [document for part in parts for document in part] == documents
    assert [len(part) for part in parts] == [OPERATION_DOCUMENTS, 3, 2, 1]
    assert all(sum(len(document.raw) for document in part) <= OPERATION_BYTES for part in parts)


def test_what_is_larger_than_a_command_should_be_goes_by_itself() -> None:
    huge = encode(event(properties={"note": "x" * OPERATION_BYTES}))
    assert [len(part) for part in in_commands([huge, huge])] == [1, 1]
