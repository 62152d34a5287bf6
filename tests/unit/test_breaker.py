from datetime import UTC, datetime
from uuid import UUID

import pytest

from contract.event import Decoded, Reason, Rejected, Source, decode
from contract.stamp import Stamp
from worker.breaker import Breaker, BreakerOpen
from worker.delivery import Delivery
from worker.policies import BreakerPolicy

BAD = Decoded([], [Rejected(b"{}", Source.HTTP, Reason.INVALID, "email is required")])
MARK = Decoded([], [])
GOOD = decode(
    b'{"projectId": "p", "email": "a@example.com", "metric": "calls", "quantity": 1, "idempotencyKey": "k"}',
    source=Source.HTTP,
    now=datetime(2026, 1, 31, 12, tzinfo=UTC),
)


def from_ingest(number: int = 1) -> Delivery:
    return Delivery(number, b"x", Source.HTTP, stamp=Stamp(UUID(int=1), number, 1))


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(BreakerPolicy(invalid_in_a_row=3))


def test_it_opens_at_the_last_of_so_many_invalid_messages_in_a_row(breaker: Breaker) -> None:
    breaker.note(from_ingest(1), BAD)
    breaker.note(from_ingest(2), BAD)
    assert not breaker.is_open
    with pytest.raises(BreakerOpen, match="3 messages"):
        breaker.note(from_ingest(3), BAD)
    assert breaker.is_open


def test_a_good_message_between_begins_a_new_row_and_a_mark_does_not(breaker: Breaker) -> None:
    for decoded in (BAD, BAD, GOOD, BAD, MARK, BAD):
        breaker.note(from_ingest(), decoded)
    assert not breaker.is_open
    with pytest.raises(BreakerOpen):
        breaker.note(from_ingest(), BAD)


@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param(Delivery(1, b"x", Source.QUEUE), id="no stamp"),
        pytest.param(Delivery(1, b"x", Source.HTTP), id="no stamp, ingest's exchange"),
        pytest.param(Delivery(1, b"x", Source.QUEUE, stamp=Stamp(UUID(int=1), 1, 1)), id="a producer's stamp"),
    ],
)
def test_what_other_producers_send_never_opens_it(breaker: Breaker, delivery: Delivery) -> None:
    for _ in range(100):
        breaker.note(delivery, BAD)
    assert not breaker.is_open
