"""Holding what is stored against what was confirmed."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from pymongo.asynchronous.database import AsyncDatabase

from contract import topology
from devstack import Broker
from tests.support.books import Books, Way
from tests.support.load import post_one
from tests.support.logs import complaints
from tests.support.pair import Site
from tests.support.queue import DeadLetter, Queue
from tests.support.sums import check_sums
from tests.support.verdict import SHOWN, Kind, Verdict
from tests.support.waiting import eventually

AUDIT_SECONDS = 120.0
# What is listed of a quorum queue is up to five seconds old; the queue itself knows.
MESSAGES = f"""
{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{topology.QUEUE}">>)),
case ra:leader_query(amqqueue:get_pid(Queue), fun rabbit_fifo:query_messages_total/1) of
    {{ok, {{_, Messages}}, _}} -> Messages;
    NoAnswerYet -> NoAnswerYet
end.
"""


@dataclass(frozen=True)
class Scene:
    """Where to look."""

    broker: Broker
    queue: Queue
    database: AsyncDatabase[dict[str, Any]]
    site: Site
    url: str
    """The base of ingest's public port."""


@dataclass(frozen=True)
class Scenario:
    """What a run may leave behind, and how long it may take to come to rest."""

    log_lines: tuple[str, ...] = ()
    """Patterns of errors that may be logged."""
    drain_seconds: float = 60.0
    fresh_seconds: float = 5.0
    """In which an event that is sent when all faults are over must be stored."""
    audit: bool = True
    audit_wait: float = 10.0
    """Seconds for which the audit gives messages that may be under way."""


async def check(books: Books, scene: Scene, scenario: Scenario | None = None) -> Verdict:
    """Wait until everything has come to rest, then hold what is stored against the books."""
    scenario, verdict = scenario or Scenario(), Verdict()
    if scenario.drain_seconds:
        await _drain(scene, scenario, verdict)
    await _post_fresh(books, scene, scenario.fresh_seconds, verdict)
    await check_contents(books, scene, verdict)
    for line in complaints(sorted(scene.site.directory.glob("*.log")), allowed=scenario.log_lines):
        verdict.add(Kind.LOG, line)
    if scenario.audit:
        await check_audit(scene.site, scenario, verdict)
    return verdict


async def check_audit(site: Site, scenario: Scenario, verdict: Verdict) -> None:
    """Ask the product itself, which knows nothing of these books."""
    audit = await site.audit(wait=scenario.audit_wait).start()
    try:
        if code := await audit.wait(seconds=AUDIT_SECONDS):
            verdict.add(Kind.AUDIT, f"the audit ended with exit code {code}:\n{audit.text}")
    finally:
        await audit.close()


async def _drain(scene: Scene, scenario: Scenario, verdict: Verdict) -> None:
    try:
        await eventually(lambda: is_drained(scene.broker), seconds=scenario.drain_seconds, every=0.3)
    except AssertionError:
        verdict.add(Kind.DRAIN, f"the queue is not empty after {scenario.drain_seconds:g} s")


async def is_drained(broker: Broker) -> bool:
    """Whether nothing is in the queue: not ready, and not delivered either."""
    return await asyncio.to_thread(broker.ctl, "eval", MESSAGES) == "0\n"


async def _post_fresh(books: Books, scene: Scene, seconds: float, verdict: Verdict) -> None:
    record = books.draw_good(Way.SINGLE)
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as http:
            await post_one(http, scene.url, books, record)
            await eventually(lambda: scene.database.events.find_one({"_id": record.id}), seconds=seconds)
    except (TimeoutError, AssertionError):
        verdict.add(Kind.LIVENESS, f"a fresh event was not stored within {seconds:g} s")


async def check_contents(books: Books, scene: Scene, verdict: Verdict) -> None:
    """Hold the events, the totals and the dead letters of this moment against the books."""
    stored = await _check_events(books, scene.database, verdict)
    letters = _numbers_of(await scene.queue.dead_letters(), books, verdict)
    verdict.stored = len(stored)
    lost = books.owed - stored - letters.keys()
    verdict.lost = len(lost)
    verdict.report(Kind.LOST, lost, "were confirmed, and are nowhere")
    verdict.report(Kind.LOST, books.doomed - letters.keys(), "are bad, and not among the dead letters")
    verdict.report(Kind.REFUSED, stored & (books.refused | books.doomed), "were refused, and are stored")
    verdict.report(
        Kind.DEAD_LETTER, letters.keys() - books.doomed, f"lie among the dead letters: {set(letters.values())}"
    )
    await check_sums(books, stored, scene.database, verdict)


async def _check_events(books: Books, database: AsyncDatabase[dict[str, Any]], verdict: Verdict) -> set[int]:
    """Hold each document against what its number says it must be; return the numbers."""
    stored, wrong, unexpected = set(), {}, []
    async for document in database.events.find({"projectId": books.project}, batch_size=5000):
        number = _number_of(document)
        if number is None or number not in books.attempted:
            unexpected.append(document["_id"])
            continue
        stored.add(number)
        if fields := books.record(number).wrong_fields(document):
            wrong[number] = fields
    if unexpected:
        verdict.add(Kind.UNEXPECTED, f"{len(unexpected)} events that nobody sent, as {unexpected[:SHOWN]}")
    verdict.report(Kind.PAYLOAD, set(wrong), f"differ from what was sent, in {set().union(*wrong.values())}")
    return stored


def _number_of(fields: Mapping[str, Any]) -> int | None:
    prefix, _, digits = str(fields.get("idempotencyKey")).partition("-")
    return int(digits) if prefix == "key" and digits.isdecimal() else None


def _numbers_of(letters: Sequence[DeadLetter], books: Books, verdict: Verdict) -> dict[int, str]:
    """The numbers among the dead letters with their reasons; copies of a letter bear its key."""
    found: dict[int, str] = {}
    keys: dict[int, set[str]] = defaultdict(set)
    for letter in letters:
        for item in _items(letter.body):
            number = _number_of(item)
            if number is None or item.get("projectId") not in {books.project, None}:
                continue
            found[number] = letter.reason
            keys[number].add(str(letter.headers.get("usage-key")))
    several = {number for number, known in keys.items() if len(known) > 1}
    # A direct producer that sends its message again, since it heard no confirm, sends garbage twice, too.
    verdict.report(Kind.DEAD_LETTER, {n for n in several if n % len(Way) != Way.DIRECT}, "are dead-lettered twice")
    return found


def _items(body: bytes) -> list[dict[str, Any]]:
    try:
        content = json.loads(body)
    except ValueError:
        return []
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, dict)]
