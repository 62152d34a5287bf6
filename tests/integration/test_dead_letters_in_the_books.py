"""The audit after each command on dead letters, also after one that was killed."""

import asyncio
from functools import partial
from itertools import count

from contract.producer import UsageProducer
from contract.stamp import Stamp
from tests.integration.test_dead_letter_replay import PUBLISHER, packed, until_stored, worker
from tests.support.letters import Documents, Post, Tool, event, post, settled_depth, tool
from tests.support.pair import Site
from tests.support.processes import Process
from tests.support.queue import Queue
from tests.support.waiting import eventually

__all__ = ["post", "tool", "worker"]  # fixtures

KILLS = [
    ("replay --reason CONFLICT --reason UNROUTED", "confirmed", 5),
    ("replay --reason CONFLICT --reason UNROUTED", "confirmed", 25),
    ("replay --reason CONFLICT --reason UNROUTED", "settled", 2),
    ("purge --reason INVALID --yes", "entered", 2),
    ("purge --reason INVALID --yes", "settled", 2),
]


async def broken_off(tool: Tool, command: str, point: str, number: int) -> None:
    """Kill the command there; a broker that still counts the one before as a reader is waited out."""
    killed = Tool(tool.site, launcher=("tests.support.broken_off", point, str(number), "SIGKILL"))

    async def is_killed() -> bool:
        ended = await killed(*command.split(), code=None)
        assert ended.code in {-9, 75}, ended.stderr
        return ended.code == -9

    await eventually(is_killed, every=0.1, what=f"{command} to be killed")


async def test_the_books_balance_whatever_was_replayed_purged_or_killed(
    site: Site, tool: Tool, post: Post, queue: Queue, database: Documents, worker: Process
) -> None:
    # given letters of the worker's own, and whole messages, with a stamp and without
    await queue.send([event(n) for n in range(100)])
    await until_stored(database, set(range(100)))
    await queue.send([event(n, quantity="2") for n in range(100)])
    await queue.send([event(n, email="nobody") for n in range(200, 300)])
    async with UsageProducer(site.amqp_url) as usage:
        await asyncio.gather(*(usage.record("p", "a@example.com", "calls", n) for n in range(20)))
    await post.strand(packed(7, 8))
    await post.strand(packed(900, 901), Stamp(PUBLISHER, 1, 2))
    await post.strand(packed(902, 903), Stamp(PUBLISHER, 2, 2, floor=1, confirmed=2))
    await settled_depth(queue, 203)
    numbers = count(1)

    async def assert_balanced() -> None:
        audit = await site.audit(f"audit-{next(numbers)}").start()
        assert await audit.wait(seconds=60) == 0, audit.text

    await assert_balanced()
    # when commands are killed half-way, then the books balance
    for command, point, number in KILLS:
        await broken_off(tool, command, point, number)
        await assert_balanced()
    # and when they come to their end
    for arguments in ("replay --all", "purge --all --yes"):
        await eventually(partial(has_ended, tool, arguments), every=0.1)
        await assert_balanced()
    await settled_depth(queue, 0)
    assert await database.ledger.count_documents({"_id.purged": {"$exists": True}}) > 100
    assert worker.running


async def has_ended(tool: Tool, arguments: str) -> bool:
    return (await tool(*arguments.split(), code=None)).code == 0
