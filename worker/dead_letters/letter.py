"""A dead letter, as it is read back."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID, uuid5

from aiormq.abc import DeliveredMessage

from contract import topology
from contract.event import EVENT_NAMESPACE, NotJson, Reason, Source, event_id, parse_json
from contract.fields import fold_object_id, parse_timestamp
from contract.origin import REQUESTS, ids
from contract.stamp import Stamp
from worker.delivery import replayed_key
from worker.parking import DETAIL, KEY, MESSAGE, PARKED_AT, REASON, SOURCE

_BROKERS_DETAIL: Final = {
    Reason.DELIVERY_LIMIT: "every worker that took this message ended before it was done with it",
    Reason.UNROUTED: "no queue was bound where this message was published",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What lies among the dead letters, whoever put it there."""

    key: UUID
    """Its identity: two letters of one key are copies, left by a crash between parking and committing."""
    reason: Reason
    detail: str
    source: Source
    parked_at: datetime | None
    """None where the broker does not say."""
    body: bytes
    headers: Mapping[str, Any]
    stamp: Stamp | None
    """Of a whole message."""

    @property
    def is_whole(self) -> bool:
        """Whether the broker dead-lettered a message as it was; workers park what they do not store of one."""
        return REASON not in self.headers

    @property
    def message(self) -> str | None:
        """The message that it was, or was a part of, as `publisher:seq`; None when that is not known."""
        if self.stamp is not None:
            return self.stamp.name
        name = self.headers.get(MESSAGE)
        return name if isinstance(name, str) else None

    @property
    def requests(self) -> list[str]:
        """The ids of the requests by which its events came, as far as they are known."""
        return ids(self.headers.get(REQUESTS))

    @property
    def project_ids(self) -> frozenset[str]:
        """The projects that its events name; none when the body cannot be read, or names none."""
        named = (item.get("projectId") for item in self._items())
        return frozenset(fold_object_id(one) for one in named if isinstance(one, str))

    @property
    def event_ids(self) -> frozenset[UUID]:
        """The ids of its events, as they stand there and as their keys make them."""
        return frozenset(one for item in self._items() for one in _ids_of(item))

    def _items(self) -> Iterator[Mapping[str, Any]]:
        try:
            content = parse_json(self.body)
        except NotJson:
            return iter(())
        items = content if isinstance(content, list) else [content]
        return (item for item in items if isinstance(item, dict))

    @classmethod
    def of(cls, message: DeliveredMessage) -> Self:
        """Read a delivery from the queue of dead letters; what a stranger put there is UNROUTED."""
        headers = message.header.properties.headers or {}
        try:
            return cls._parked(message.body, headers)
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls._whole(message.body, {name: value for name, value in headers.items() if name != REASON})

    @classmethod
    def _parked(cls, body: bytes, headers: Mapping[str, Any]) -> Self:
        return cls(
            key=UUID(headers[KEY]),
            reason=Reason(headers[REASON]),
            detail=str(headers[DETAIL]),
            source=Source(headers[SOURCE]),
            parked_at=parse_timestamp(headers[PARKED_AT]),
            body=body,
            headers=headers,
            stamp=None,
        )

    @classmethod
    def _whole(cls, body: bytes, headers: Mapping[str, Any]) -> Self:
        stamp = Stamp.from_headers(headers)
        death = _last_death(headers)
        reason = Reason.DELIVERY_LIMIT if death.get("reason") == "delivery_limit" else Reason.UNROUTED
        died_at = death.get("time")
        return cls(
            key=_key_of_whole(body, headers, stamp),
            reason=reason,
            detail=_BROKERS_DETAIL[reason],
            source=Source.HTTP if death.get("exchange") == topology.EXCHANGE else Source.QUEUE,
            parked_at=died_at if isinstance(died_at, datetime) else None,
            body=body,
            headers=headers,
            stamp=stamp,
        )


def _ids_of(item: Mapping[str, Any]) -> Iterator[UUID]:
    project_id, key = item.get("projectId"), item.get("idempotencyKey")
    if isinstance(project_id, str) and isinstance(key, str):
        yield event_id(project_id, key)
    # Nothing more than this is sure: the letter may lie there for what is wrong with it.
    with suppress(ValueError, TypeError, AttributeError):
        yield UUID(item.get("id"))


def _key_of_whole(body: bytes, headers: Mapping[str, Any], stamp: Stamp | None) -> UUID:
    if stamp is not None:
        return uuid5(EVENT_NAMESPACE, f"{stamp.publisher}:{stamp.seq}")
    # A dead letter that was replayed and came back is the same one still.
    return replayed_key(headers) or uuid5(EVENT_NAMESPACE, hashlib.sha256(body).hexdigest())


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else {}
    return last if isinstance(last, dict) else {}
