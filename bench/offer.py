"""Requests at a fixed rate, from a process of their own, with what came of each."""

import asyncio
import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from bench.arrivals import Plan
from bench.lag import LagSampler
from bench.subjects import PROJECT, ROOT
from contract.event import event_id

OK: Final = 200


@dataclass(frozen=True, slots=True)
class Request:
    """What became of one request; times in seconds from the start of the load."""

    number: int
    due: float
    sent: float
    done: float
    status: int
    """0: the connection broke, or no answer came."""

    @property
    def since_due(self) -> float:
        """Milliseconds from when it was due to its answer."""
        return (self.done - self.due) * 1e3

    @property
    def since_sent(self) -> float:
        """Milliseconds from when it was sent to its answer."""
        return (self.done - self.sent) * 1e3


@dataclass(frozen=True, slots=True)
class Offered:
    """What came of a plan."""

    plan: Plan
    requests: Sequence[Request]
    """Those that were sent."""
    unsent: Sequence[float]
    """When those were due that no connection was free for."""
    began: float
    """By the monotonic clock of the machine."""
    cpu: float
    """Seconds that the sender spent."""
    without_retry_after: int
    """Answers of 503 that do not say when to come again."""

    @classmethod
    def read(cls, plan: Plan, totals: dict[str, float]) -> Self:
        """Read what the program has written."""
        count = len(plan.due_times())
        due, sent, done, status = array("d"), array("d"), array("d"), array("h")
        with Path(plan.output).open("rb") as file:
            for column in (due, sent, done, status):
                column.fromfile(file, count)
        rows = zip(range(count), due, sent, done, status, strict=True)
        requests = [Request(*row) for row in rows if row[2] > 0]
        unsent = [at for at, was_sent in zip(due, sent, strict=True) if not was_sent]
        return cls(plan, requests, unsent, totals["began"], totals["cpu"], int(totals["bare_503"]))

    @property
    def statuses(self) -> dict[int, int]:
        """How many requests were answered with each status."""
        return dict(Counter(request.status for request in self.requests))

    @property
    def accepted(self) -> list[Request]:
        """Those that were answered with 200."""
        return [request for request in self.requests if request.status == OK]

    @property
    def events(self) -> int:
        """Events that were answered for with 200."""
        return len(self.accepted) * self.plan.records

    def ids(self) -> Iterator[UUID]:
        """Give the ids of these events."""
        return (one for request in self.accepted for one in ids_of(self.plan, request.number))


def ids_of(plan: Plan, number: int) -> Iterator[UUID]:
    """Give the ids of a request's events, as anybody can compute them from its idempotency key."""
    key = f"{plan.key}-{number}"
    keys = [key] if plan.records == 1 else [f"{key}:{index}" for index in range(plan.records)]
    return (event_id(PROJECT, one) for one in keys)


async def offer(plan: Plan, sampler: LagSampler) -> Offered:
    """Send the plan's requests; the sampler looks for the events that the program reports."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.arrivals", plan.to_json(), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        async for line in process.stdout:
            if line.startswith(b"{"):
                return Offered.read(plan, json.loads(line))
            number, answered_at = line.split()
            *_, last = ids_of(plan, int(number))
            sampler.expect(last, float(answered_at))
        raise RuntimeError("the program that sends requests has failed")
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    finally:
        await process.wait()
