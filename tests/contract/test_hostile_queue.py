"""Whatever lies in the queue, the good events are stored while the bad ones are parked, each with its reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractExchange, DateType, HeadersType
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from contract.event import event_id
from devstack import Devstack
from tests.contract.live import without_errors
from tests.support.pair import EXAMPLE, Site
from tests.support.processes import Process
from tests.support.queue import DeadLetter, Queue
from tests.support.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]
KEY = "k"
TAKEN = "taken"
"""A key that an event of every test has used, with the quantity 1."""


@dataclass
class Bench:
    """A worker, a producer without manners, and what comes out at either end."""

    worker: Process
    exchange: AbstractExchange
    database: Database
    queue: Queue
    letters: list[DeadLetter]

    async def send(self, *bodies: bytes, **properties: Any) -> None:
        """Publish each body as a message of its own, confirmed."""
        for body in bodies:
            await self.exchange.publish(aio_pika.Message(body, **properties), topology.ROUTING_KEY)

    async def stored(self, *ids: UUID) -> list[dict[str, Any]]:
        """Wait until all of these are stored."""

        async def all_there() -> bool:
            return await self.database.events.count_documents({"_id": {"$in": ids}}) == len(ids)

        await eventually(all_there, what=f"{len(ids)} stored events")
        return await self.database.events.find({"_id": {"$in": ids}}).to_list()

    async def parked(self, count: int) -> list[DeadLetter]:
        """Wait for so many new dead letters, which are taken."""
        await eventually(lambda: len(self.letters) >= count, what=f"{count} dead letters")
        taken = self.letters[:]
        self.letters.clear()
        assert len(taken) == count
        return taken

    async def settled(self) -> None:
        """Wait until everything published before is settled."""
        barrier = good(f"proj_{uuid4().hex[:12]}", "barrier")
        await self.send(encode(barrier))
        await self.stored(id_of(barrier))


@pytest.fixture(scope="module")
async def running(stack: Devstack, fresh_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    uri = await asyncio.to_thread(lambda: stack.database.uri)
    site = Site(fresh_broker, uri, f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("worker"))
    worker = await site.worker().start()
    letters: list[DeadLetter] = []

    async def note(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        headers = message.headers
        letters.append(
            DeadLetter(str(headers["usage-reason"]), str(headers["usage-detail"]), message.body, message.headers)
        )

    try:
        await worker.logged("consuming", seconds=30)
        connection = await aio_pika.connect(fresh_broker)
        async with (
            AsyncMongoClient[dict[str, Any]](uri, uuidRepresentation="standard", tz_aware=True) as client,
            connection,
            connection.channel(on_return_raises=True) as channel,
        ):
            copies = await channel.declare_queue(exclusive=True)
            await copies.bind(topology.DEAD_EXCHANGE)
            await copies.consume(note, no_ack=True)
            exchange = await channel.get_exchange(topology.DIRECT_EXCHANGE, ensure=False)
            yield Bench(worker, exchange, client[site.database], Queue(fresh_broker), letters)
            await client.drop_database(site.database)
    finally:
        await worker.close()


@pytest.fixture
async def bench(running: Bench) -> AsyncIterator[Bench]:
    """The same worker for all tests: it never ends, gives nothing back to the queue, and logs no error."""
    async with without_errors(running.worker):
        yield running
    assert running.letters == []
    assert await running.queue.depth() == 0


@pytest.fixture
def project() -> str:
    """A project of the test's own, in which every key is new."""
    return f"proj_{uuid4().hex[:12]}"


def good(project: str, key: str = KEY, **changes: Any) -> dict[str, Any]:
    """An event that any worker stores."""
    return {**EXAMPLE, "projectId": project, "idempotencyKey": key, **changes}


def encode(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event).encode()


def id_of(event: Mapping[str, Any]) -> UUID:
    return event_id(event["projectId"], event["idempotencyKey"])


def pack(*items: bytes) -> bytes:
    return b"[" + b",".join(items) + b"]"


def having(**texts: str | None) -> Callable[[str], bytes]:
    """An event with these changes, each the JSON text of a value; one that is None is left out."""

    def make(project: str) -> bytes:
        event = {name: json.dumps(value) for name, value in good(project).items()}
        fields = {name: text for name, text in {**event, **texts}.items() if text is not None}
        return ("{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}").encode()

    return make


def beside(members: str) -> Callable[[str], bytes]:
    """An event with more members, in JSON."""
    return lambda project: having()(project)[:-1] + f",{members}}}".encode("utf-8", "surrogatepass")


def bare(text: bytes) -> Callable[[str], bytes]:
    """What is no event at all."""
    return lambda _: text


def properties(text: str) -> Callable[[str], bytes]:
    return having(properties=text)


def many(count: int) -> str:
    return "{" + ",".join(f'"p{n}": {n}' for n in range(count)) + "}"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


BACKSLASH = chr(92)
NUL = BACKSLASH + "u0000"
SURROGATE = BACKSLASH + "ud800"

# What is wrong -> the item as it stands in a message, the reason, and a word of the detail.
INVALID: dict[str, tuple[Callable[[str], bytes], str, str]] = {
    # Each field's rule.
    "no projectId": (having(projectId=None), "INVALID", "projectId is required"),
    "an empty projectId": (having(projectId='""'), "INVALID", "projectId"),
    "a projectId with a slash": (having(projectId='"a/b"'), "INVALID", "projectId"),
    "a projectId with a dot": (having(projectId='"a.b"'), "INVALID", "projectId"),
    "a projectId that ends in a newline": (having(projectId='"a\\n"'), "INVALID", "projectId"),
    "a projectId with a NUL": (having(projectId=f'"a{NUL}"'), "INVALID", "projectId"),
    "a projectId of 65 characters": (having(projectId=json.dumps("x" * 65)), "INVALID", "projectId"),
    "a projectId that is a number": (having(projectId="1"), "INVALID", "projectId"),
    "a projectId that is a query": (having(projectId='{"$ne": null}'), "INVALID", "projectId"),
    "a projectId that is an ObjectId": (
        having(projectId='{"$oid": "64d2f1e0c0ffee0123456789"}'),
        "INVALID",
        "projectId",
    ),
    "no email": (having(email=None), "INVALID", "email is required"),
    "an empty email": (having(email='""'), "INVALID", "email"),
    "an email without a domain": (having(email='"nobody"'), "INVALID", "email"),
    "an email with a space": (having(email='"a b@example.com"'), "INVALID", "email"),
    "an email that ends in a newline": (having(email='"a@example.com\\n"'), "INVALID", "email"),
    "an email with a NUL": (having(email=f'"a{NUL}@example.com"'), "INVALID", "email"),
    "an email beyond ASCII": (having(email='"ä@example.com"'), "INVALID", "email"),
    "an email of 255 characters": (having(email=json.dumps("x" * 243 + "@example.com")), "INVALID", "email"),
    "an email that is a query": (having(email='{"$gt": ""}'), "INVALID", "email"),
    "no metric": (having(metric=None), "INVALID", "metric is required"),
    "an empty metric": (having(metric='""'), "INVALID", "metric"),
    "a metric of spaces": (having(metric='" \\u2003\\t"'), "INVALID", "metric"),
    "a metric with a NUL": (having(metric=f'"a{NUL}b"'), "INVALID", "metric"),
    "a metric with an escape": (having(metric='"a\\u001bb"'), "INVALID", "metric"),
    "a metric with a C1 control": (having(metric='"a\\u0085b"'), "INVALID", "metric"),
    "a metric of 129 characters": (having(metric=json.dumps("x" * 129)), "INVALID", "metric"),
    "a metric that is null": (having(metric="null"), "INVALID", "metric"),
    "no quantity": (having(quantity=None), "INVALID", "quantity is required"),
    "a quantity that is true": (having(quantity="true"), "INVALID", "quantity"),
    "a quantity that is null": (having(quantity="null"), "INVALID", "quantity"),
    "a quantity of letters": (having(quantity='"abc"'), "INVALID", "quantity"),
    "an empty quantity": (having(quantity='""'), "INVALID", "quantity"),
    "a quantity with an underscore": (having(quantity='"1_000"'), "INVALID", "quantity"),
    "a quantity with a space": (having(quantity='" 1"'), "INVALID", "quantity"),
    "a quantity with a plus": (having(quantity='"+1"'), "INVALID", "quantity"),
    "a quantity in hexadecimal": (having(quantity='"0x10"'), "INVALID", "quantity"),
    "a quantity in Arabic digits": (having(quantity='"٣"'), "INVALID", "quantity"),
    "a quantity in fullwidth digits": (having(quantity='"\\uff11"'), "INVALID", "quantity"),
    "a quantity that says NaN": (having(quantity='"NaN"'), "INVALID", "quantity"),
    "a quantity that says Infinity": (having(quantity='"-Infinity"'), "INVALID", "quantity"),
    "10^17": (having(quantity="100000000000000000"), "INVALID", "quantity"),
    "-10^17": (having(quantity="-1e17"), "INVALID", "quantity"),
    "10^30": (having(quantity="1" + "0" * 30), "INVALID", "quantity"),
    "10^30 as text": (having(quantity='"1e30"'), "INVALID", "quantity"),
    "1e400": (having(quantity="1e400"), "INVALID", "quantity"),
    "1e999999": (having(quantity="-1e999999"), "INVALID", "quantity"),
    "1e-400": (having(quantity="1e-400"), "INVALID", "quantity"),
    "an exponent without end as text": (having(quantity=f'"1e{"9" * 50}"'), "INVALID", "quantity"),
    "60 digits": (having(quantity="1" * 60), "INVALID", "quantity"),
    "60 digits as text": (having(quantity=f'"{"1" * 60}"'), "INVALID", "quantity"),
    "60 decimals": (having(quantity=f"0.{'1' * 60}"), "INVALID", "quantity"),
    "4000 digits": (having(quantity="1" * 4000), "INVALID", "quantity"),
    "10 decimals": (having(quantity="0.1234567891"), "INVALID", "quantity"),
    "a quantity of the database's": (having(quantity='{"$numberDecimal": "1"}'), "INVALID", "quantity"),
    "a quantity in an array": (having(quantity="[1]"), "INVALID", "quantity"),
    "an empty key": (having(idempotencyKey='""'), "INVALID", "idempotencyKey"),
    "a key of 256 characters": (having(idempotencyKey=json.dumps("k" * 256)), "INVALID", "idempotencyKey"),
    "a key with a NUL": (having(idempotencyKey=f'"k{NUL}"'), "INVALID", "idempotencyKey"),
    "a key with a newline": (having(idempotencyKey='"k\\n"'), "INVALID", "idempotencyKey"),
    "a key that is a number": (having(idempotencyKey="1"), "INVALID", "idempotencyKey"),
    "a key that is null": (having(idempotencyKey="null"), "INVALID", "idempotencyKey"),
    "a timestamp that is a number": (having(timestamp="1769860800"), "INVALID", "timestamp"),
    "a timestamp without an offset": (having(timestamp='"2026-01-31T12:00:00"'), "INVALID", "timestamp"),
    "a date": (having(timestamp='"2026-01-31"'), "INVALID", "timestamp"),
    "a leap second": (having(timestamp='"2016-12-31T23:59:60Z"'), "INVALID", "timestamp"),
    "a day that is none": (having(timestamp='"2026-02-30T00:00:00Z"'), "INVALID", "timestamp"),
    "an hour that is none": (having(timestamp='"2026-01-31T24:00:00Z"'), "INVALID", "timestamp"),
    "a timestamp in Arabic digits": (having(timestamp='"٢٠٢٦-01-31T12:00:00Z"'), "INVALID", "timestamp"),
    "a timestamp before 1970": (having(timestamp='"1969-12-31T23:59:59.999Z"'), "INVALID", "timestamp"),
    "a timestamp before 1970 by its offset": (having(timestamp='"1970-01-01T00:00:00+00:01"'), "INVALID", "timestamp"),
    "a timestamp in 2200": (having(timestamp='"2200-01-01T00:00:00Z"'), "INVALID", "timestamp"),
    "a timestamp in year 1": (having(timestamp='"0001-01-01T00:00:00+23:59"'), "INVALID", "timestamp"),
    "a timestamp in year 9999": (having(timestamp='"9999-12-31T23:59:59-23:59"'), "INVALID", "timestamp"),
    "a timestamp of the database's": (having(timestamp='{"$date": 0}'), "INVALID", "timestamp"),
    "a receivedAt before 1970": (having(receivedAt='"1960-01-01T00:00:00Z"'), "INVALID", "receivedAt"),
    "a receivedAt in 2200": (having(receivedAt='"2200-01-01T00:00:00Z"'), "INVALID", "receivedAt"),
    "a receivedAt that is null": (having(receivedAt="null"), "INVALID", "receivedAt"),
    # Properties.
    "properties that are null": (properties("null"), "INVALID", "properties"),
    "properties in an array": (properties('[{"a": 1}]'), "INVALID", "properties"),
    "51 properties": (properties(many(51)), "INVALID", "properties"),
    "a property without a name": (properties('{"": 1}'), "INVALID", "properties"),
    "a property's name of 41 characters": (properties(f'{{"{"n" * 41}": 1}}'), "INVALID", "properties"),
    "a property's name with a dollar": (properties('{"$where": "sleep(1000)"}'), "INVALID", "properties"),
    "a property's name with a dollar inside": (properties('{"a$b": 1}'), "INVALID", "properties"),
    "a property's name with a dot": (properties('{"a.b": 1}'), "INVALID", "properties"),
    "a property's name with a NUL": (properties(f'{{"a{NUL}b": 1}}'), "INVALID", "properties"),
    "a property that is null": (properties('{"a": null}'), "INVALID", "properties"),
    "a property that is an object": (properties('{"a": {"$gt": 1}}'), "INVALID", "properties"),
    "a property that is an array": (properties('{"a": [1]}'), "INVALID", "properties"),
    "a property of 501 characters": (properties(json.dumps({"a": "x" * 501})), "INVALID", "properties"),
    "a property beyond 64 bits": (properties('{"a": 9223372036854775808}'), "INVALID", "properties"),
    "a property of 60 digits": (properties(f'{{"a": {"1" * 60}}}'), "INVALID", "properties"),
    "a property of 1e400": (properties('{"a": 1e400}'), "INVALID", "properties"),
    "a property with 10 decimals": (properties('{"a": 0.0000000001}'), "INVALID", "properties"),
    "properties 190 deep": (properties(nested(190)), "INVALID", "properties"),
    # What else stands there.
    "a misspelt field": (beside('"idempotency_key": "k"'), "INVALID", "did you mean idempotencyKey"),
    "__proto__": (beside('"__proto__": {"admin": true}'), "INVALID", "__proto__ is not a known field"),
    "$where": (beside('"$where": "1"'), "INVALID", "$where is not a known field"),
    "_id": (beside('"_id": 1'), "INVALID", "_id is not a known field"),
    "source": (beside('"source": "http"'), "INVALID", "source is not a known field"),
    "a field without a name": (beside('"": 1'), "INVALID", "is not a known field"),
    "a field with a NUL in its name": (beside(f'"metric{NUL}": "m"'), "INVALID", "is not a known field"),
    "a field with a long name": (beside(f'"{"é" * 100_000}": 1'), "INVALID", "é" * 4000),
    "a thousand fields": (beside(",".join(f'"x{n}": 1' for n in range(1000))), "INVALID", "is not a known field"),
    "something 190 deep": (beside(f'"x": {nested(190)}'), "INVALID", "x is not a known field"),
    "null": (bare(b"null"), "INVALID", "JSON object"),
    "true": (bare(b"true"), "INVALID", "JSON object"),
    "a number": (bare(b"1"), "INVALID", "JSON object"),
    "a string": (bare(b'"event"'), "INVALID", "JSON object"),
    "an empty object": (bare(b"{}"), "INVALID", "projectId is required"),
    # Identity.
    "neither id nor key": (having(idempotencyKey=None), "MISSING_ID", "id"),
    "an id without hyphens": (having(id=f'"{uuid4().hex}"'), "INVALID", "id must be a UUID"),
    "an id in braces": (having(id=f'"{{{uuid4()}}}"'), "INVALID", "id must be a UUID"),
    "an id as a URN": (having(id=f'"{uuid4().urn}"'), "INVALID", "id must be a UUID"),
    "an id with a newline": (having(id=f'"{uuid4()}\\n"'), "INVALID", "id must be a UUID"),
    "an id that is empty": (having(id='""'), "INVALID", "id must be a UUID"),
    "an id that is a number": (having(id="1", idempotencyKey=None), "INVALID", "id must be a UUID"),
    "an id that is null": (having(id="null"), "INVALID", "id must be a UUID"),
    "an id that is not that of the key": (having(id=f'"{uuid4()}"'), "ID_MISMATCH", "id must be"),
    "the id of another's key": (
        having(id='"d756084a-f7a0-51e2-96e1-80b49e81eaae"', idempotencyKey='"order-42"'),
        "ID_MISMATCH",
        "id must be",
    ),
    "other content under a key that is taken": (
        having(idempotencyKey=f'"{TAKEN}"', quantity="2"),
        "CONFLICT",
        '"quantity":"2"',
    ),
    "true where there was 1": (
        having(idempotencyKey=f'"{TAKEN}"', quantity="1", properties='{"a": true}'),
        "CONFLICT",
        '{"a":true}',
    ),
}


@pytest.mark.parametrize(("make", "reason", "word"), INVALID.values(), ids=INVALID.keys())
async def test_a_bad_event_is_parked_with_its_reason_and_its_neighbours_are_stored(
    bench: Bench, project: str, make: Callable[[str], bytes], reason: str, word: str
) -> None:
    # given good events before, between and behind, in the same message as well as in others
    neighbours = [good(project, f"good-{n}", quantity=n) for n in range(5)]
    taken = good(project, TAKEN, quantity=1, properties={"a": 1})
    before, first, between, last, behind = map(encode, neighbours)
    bad = make(project)
    # when a bad one comes, packed with others and alone
    await bench.send(encode(taken), before, pack(first, bad, between, bad, last), bad, behind)
    # then all of the good are stored as they were sent
    documents = await bench.stored(id_of(taken), *map(id_of, neighbours))
    assert sum(document["quantity"].to_decimal() for document in documents) == 11
    # and the bad is parked each time it came, with what is wrong
    letters = await bench.parked(3)
    assert {letter.reason for letter in letters} == {reason}
    assert all(word in letter.detail for letter in letters), letters[0].detail
    assert {letter.headers["usage-source"] for letter in letters} == {"queue"}
    # and nothing else is stored, nor is the bad one changed
    assert await bench.database.events.count_documents({"projectId": project}) == 6
    if reason != "CONFLICT":
        assert any(letter.body == bad for letter in letters)
        assert [same_json(letter.body, bad) for letter in letters] == [True] * 3


def same_json(one: bytes, other: bytes) -> bool:
    """Whether two texts are one JSON value, to the last digit."""
    first, second = (json.loads(text, parse_int=Decimal, parse_float=Decimal) for text in (one, other))
    return bool(first == second)


UNDECODABLE: dict[str, Callable[[str], bytes]] = {
    "a field twice": beside('"quantity": 1'),
    "a field twice, the same": beside(f'"idempotencyKey": "{KEY}"'),
    "a property twice": beside('"properties": {"a": 1, "a": 1}'),
    "a field twice, once escaped": beside('"\\u0071uantity": 1'),
    "a lone surrogate in a value": having(metric=f'"a{SURROGATE}b"'),
    "a lone surrogate in a name": properties(f'{{"a{SURROGATE}": 1}}'),
    "surrogates the wrong way round": having(metric='"\\udc00\\ud800"'),
    "a surrogate in UTF-8": lambda project: having(metric='"?"')(project).replace(b"?", b"\xed\xa0\x80"),
    "a byte that is no UTF-8": lambda project: having(metric='"?"')(project).replace(b"?", b"\xff"),
    "an overlong NUL": lambda project: having(metric='"?"')(project).replace(b"?", b"\xc0\x80"),
    "a NUL in a value": lambda project: having(metric='"?"')(project).replace(b"?", b"\x00"),
    "a newline in a value": having(metric='"a\nb"'),
    "NaN": having(quantity="NaN"),
    "Infinity": having(quantity="Infinity"),
    "-Infinity": properties('{"a": -Infinity}'),
    "a number with a leading zero": having(quantity="01"),
    "a number with a plus": having(quantity="+1"),
    "a number without digits": having(quantity="."),
    "an exponent without end": having(quantity=f"1e{'9' * 50}"),
    "5000 digits": having(quantity="1" * 5000),
    "something 300 deep": beside(f'"x": {nested(300)}'),
    "something 100,000 deep": beside(f'"x": {nested(100_000)}'),
    "something without end": beside('"x": ' + "[" * 100_000),
    "a comma too many": lambda project: having()(project)[:-1] + b",}",
    "single quotes": bare(b"{'a': 1}"),
    "a comment": bare(b"/* */ {}"),
    "nothing": lambda _: b"",
    "a word": bare(b"undefined"),
    "a pickle": bare(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00"),
    "gzip": bare(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
}


@pytest.mark.parametrize("make", UNDECODABLE.values(), ids=UNDECODABLE.keys())
async def test_what_cannot_be_read_is_parked_whole_and_the_messages_around_it_are_stored(
    bench: Bench, project: str, make: Callable[[str], bytes]
) -> None:
    before, first, last, behind = (good(project, f"good-{n}") for n in range(4))
    bad = make(project)
    packed = b"[" + encode(first) + b"," + (bad or b",") + b"," + encode(last) + b"]"
    await bench.send(encode(before), packed, bad, encode(behind))
    await bench.stored(id_of(before), id_of(behind))
    letters = await bench.parked(2)
    assert {letter.reason for letter in letters} == {"UNDECODABLE"}
    assert {letter.body for letter in letters} == {packed, bad}
    assert all(letter.detail for letter in letters)
    assert await bench.database.events.count_documents({"projectId": project}) == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.decode().encode("utf-16"),
        lambda body: body.decode().encode("utf-32-le"),
        lambda body: body + b"\x00",
        lambda body: b"\x00" + body,
        lambda body: body + b"\n" + body,
        lambda body: body[:-1],
        lambda body: body + b"]",
        lambda body: b"\x1e" + body,
    ],
    ids=[
        "a byte order mark",
        "UTF-16",
        "UTF-32",
        "a NUL behind",
        "a NUL before",
        "lines",
        "cut off",
        "more",
        "RFC 7464",
    ],
)
async def test_a_good_event_in_a_bad_wrapping_is_parked(
    bench: Bench, project: str, wrap: Callable[[bytes], bytes]
) -> None:
    behind = good(project, "behind")
    bodies = [wrap(encode(good(project))), wrap(pack(encode(good(project, "packed"))))]
    await bench.send(*bodies, encode(behind))
    await bench.stored(id_of(behind))
    letters = await bench.parked(2)
    assert [letter.reason for letter in letters] == ["UNDECODABLE"] * 2
    assert [letter.body for letter in letters] == bodies
    assert await bench.database.events.count_documents({"projectId": project}) == 1


async def test_an_array_in_an_array_is_no_event(bench: Bench, project: str) -> None:
    inner, outer = good(project, "inner"), good(project, "outer")
    await bench.send(pack(pack(encode(inner)), encode(outer)), pack(pack(pack())))
    await bench.stored(id_of(outer))
    letters = await bench.parked(2)
    assert [letter.reason for letter in letters] == ["INVALID"] * 2
    assert json.loads(letters[0].body) == [inner]
    assert await bench.database.events.count_documents({"projectId": project}) == 1


async def test_an_empty_array_is_a_message_without_events(bench: Bench) -> None:
    before = await bench.database.events.estimated_document_count()
    await bench.send(b"[]", b" [ ] ", b"[]\n")
    await bench.settled()
    assert await bench.database.events.estimated_document_count() == before + 1


async def test_one_event_many_times_in_one_message_is_stored_once(bench: Bench, project: str) -> None:
    event = good(project, quantity=1)
    spellings = [event, {**event, "quantity": "1.00"}, {**event, "email": EXAMPLE["email"].upper()}]  # type: ignore[attr-defined]
    by_id = {**event, "id": str(id_of(event)).upper()}
    await bench.send(pack(*map(encode, [*spellings, by_id] * 10)), *map(encode, spellings))
    await bench.settled()
    [document] = await bench.database.events.find({"projectId": project}).to_list()
    assert str(document["quantity"]) == "1"


async def test_of_one_message_with_two_contents_under_one_key_the_first_stands(bench: Bench, project: str) -> None:
    await bench.send(pack(*(encode(good(project, quantity=n)) for n in (3, 4, 3, 5))))
    [document] = await bench.stored(id_of(good(project)))
    assert str(document["quantity"]) == "3"
    letters = await bench.parked(2)
    assert [letter.reason for letter in letters] == ["CONFLICT"] * 2
    assert [json.loads(letter.body)["quantity"] for letter in letters] == ["4", "5"]
    for letter in letters:
        assert '"quantity":"3"' in letter.detail
        assert f'"quantity":"{json.loads(letter.body)["quantity"]}"' in letter.detail


async def test_an_id_that_is_used_by_another_project_is_a_conflict(bench: Bench, project: str) -> None:
    theirs = good(project)
    mine = {**good(f"{project}-mine"), "id": str(id_of(theirs))}
    del mine["idempotencyKey"]
    await bench.send(encode(theirs), encode(mine))
    [letter] = await bench.parked(1)
    assert letter.reason == "CONFLICT"
    [document] = await bench.stored(id_of(theirs))
    assert document["projectId"] == project


async def test_a_detail_is_shortened_and_the_event_is_not(bench: Bench, project: str) -> None:
    # The largest an event may be, and one with a field whose name is larger than a frame of headers.
    text = "\U0001f642" * 500
    large = good(project, quantity=1, properties={f"{n:\U0001f642>40}": text for n in range(50)})
    unknown = {**good(project), "x" * 200_000: 1}
    await bench.send(encode(large), encode({**large, "quantity": 2}), encode(unknown))
    letters = await bench.parked(2)
    assert {letter.reason for letter in letters} == {"CONFLICT", "INVALID"}
    for letter in letters:
        assert len(letter.detail) <= 4000
        body = json.loads(letter.body)
        assert body in (unknown, {**body, "properties": large["properties"], "quantity": "2"})
    [document] = await bench.stored(id_of(large))
    assert document["properties"] == large["properties"]


STRANGE: dict[str, dict[str, str]] = {
    "a negative quantity": {"quantity": "-12345678901234567.123456789"},
    "the largest quantity": {"quantity": "99999999999999999.999999999"},
    "the smallest quantity": {"quantity": '"1e-9"'},
    "zero with a large exponent": {"quantity": "0e99999"},
    "5000 zeros": {"quantity": f"1.{'0' * 5000}"},
    "a metric of direction marks": {"metric": '"a\\u202eb\\ufeffc"'},
    "a metric of 128 emoji": {"metric": json.dumps("\U0001f642" * 128)},
    "an email that looks like a query": {"email": '"$where@example.com"'},
    "a metric that looks like a query": {"metric": '"$gt"'},
    "the first moment": {"timestamp": '"1970-01-01T00:00:00Z"', "receivedAt": '"1970-01-01T00:00:00.001Z"'},
    "the last moment": {"timestamp": '"2199-12-31T23:59:59.999999999Z"'},
    "the hour of a leap day": {"timestamp": '"2000-02-29T23:59:59.999-23:59"'},
    "50 properties": {"properties": many(50)},
    "properties named like ours": {"properties": '{"__proto__": 1, "_id": "x", "constructor": true}'},
    "a property with a NUL": {"properties": f'{{"a": "x{NUL}y"}}'},
    "the largest integer": {"properties": '{"a": 9223372036854775807, "b": -9223372036854775808}'},
    "a property of 500 emoji": {"properties": json.dumps({"\U0001f642" * 40: "\U0001f642" * 500})},
}


@pytest.mark.parametrize("changes", STRANGE.values(), ids=STRANGE.keys())
async def test_what_is_strange_but_within_the_rules_is_stored(
    bench: Bench, project: str, changes: dict[str, str]
) -> None:
    await bench.send(having(**changes)(project))
    [document] = await bench.stored(event_id(project, KEY))
    sent = json.loads(having(**changes)(project), parse_float=Decimal)
    assert document["quantity"].to_decimal() == Decimal(str(sent["quantity"]))
    for name in ("email", "metric", "properties"):
        assert document.get(name) == sent.get(name)


@pytest.mark.parametrize(
    "attributes",
    [
        {"content_type": "text/plain", "content_encoding": "gzip"},
        {"message_id": "x" * 255, "correlation_id": "x", "reply_to": "nobody", "app_id": "x", "type": "x"},
        {"headers": {"x-delivery-count": "many", "usage-reason": "CONFLICT", "usage-source": "http"}},
        {"headers": {"x-delivery-count": 1_000_000}},
        {"headers": {"x-death": [{"count": 99}], "nested": {"a": [1, None, True, 0.5, {"b": ""}]}}},
        {"headers": {f"h{n}": "x" * 1000 for n in range(50)}},
        {"priority": 255, "timestamp": datetime(2106, 1, 1, tzinfo=UTC)},
        {"delivery_mode": 1},
    ],
    ids=[
        "types",
        "ids",
        "headers that lie",
        "a count that lies",
        "nested headers",
        "50 kB of headers",
        "far",
        "transient",
    ],
)
async def test_attributes_of_a_message_change_nothing(
    bench: Bench, project: str, attributes: dict[str, HeadersType | DateType | str]
) -> None:
    before = len(bench.worker.text)
    await bench.send(encode(good(project)), **attributes)
    [document] = await bench.stored(event_id(project, KEY))
    assert document["source"] == "queue"
    # Not even how often it was delivered. A batch is logged before the next but one is stored.
    await bench.settled()
    await bench.settled()
    logged = bench.worker.text[before:]
    assert '"redelivered": 0' in logged
    assert '"redelivered": 1' not in logged


async def test_a_project_of_24_hexadecimal_digits_is_one_in_either_case(bench: Bench) -> None:
    project = f"ABCDEF{uuid4().hex[:18]}"
    await bench.send(pack(encode(good(project)), encode(good(project.upper()))), encode(good(project.lower())))
    await bench.settled()
    [document] = await bench.database.events.find({"projectId": ObjectId(project)}).to_list()
    assert document["_id"] == event_id(project.lower(), KEY)


async def test_a_message_of_20_000_events_is_stored_but_for_the_bad_ones(bench: Bench, project: str) -> None:
    events = [good(project, f"huge-{n:05}", quantity=n, properties={"pad": "x" * 130}) for n in range(20_000)]
    bad = {**good(project), "quantity": "many"}
    body = pack(*map(encode, [bad, *events, bad]))
    assert len(body) > 6_000_000
    behind = good(project, "behind", quantity=0)
    await bench.send(body, encode(behind))
    await bench.stored(id_of(behind))
    assert [letter.reason for letter in await bench.parked(2)] == ["INVALID"] * 2
    [total] = await (
        await bench.database.events.aggregate(
            [
                {"$match": {"projectId": project}},
                {"$group": {"_id": None, "count": {"$sum": 1}, "sum": {"$sum": "$quantity"}}},
            ]
        )
    ).to_list()
    assert (total["count"], total["sum"].to_decimal()) == (20_001, sum(range(20_000)))


async def test_a_message_of_bad_events_only_is_parked_event_by_event(bench: Bench, project: str) -> None:
    await bench.send(pack(*(encode({**good(project), "quantity": f"no {n}"}) for n in range(2000))))
    letters = await bench.parked(2000)
    assert {json.loads(letter.body)["quantity"] for letter in letters} == {f"no {n}" for n in range(2000)}
