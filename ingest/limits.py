"""Rate limits: how many records a second one project, or one credential, may send."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

REMEMBERED: Final = 10_000
"""Senders that a limit keeps account of. Beyond, the one unseen longest is forgotten, which can only favour it: memory
is bounded whatever project ids somebody invents."""


class RateLimited(Exception):
    """The sender is over its limit; `headers` say when to try again."""

    def __init__(self, sentence: str, headers: Mapping[str, str]) -> None:
        super().__init__(sentence)
        self.headers = dict(headers)


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """`rate` records a second in the long run, `burst` at once."""

    name: str
    rate: float
    burst: int

    @property
    def header(self) -> str:
        """As a RateLimit-Policy field of draft-ietf-httpapi-ratelimit-headers: quota, and seconds to regain it."""
        return f'"{self.name}";q={self.burst};w={max(1, ceil(self.burst / self.rate))}'


class RateLimit:
    """Token buckets by the generic cell rate algorithm: one number for each sender, the time its bucket is full."""

    def __init__(self, policy: RatePolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, sender: str, records: int) -> None:
        """Count records of a sender; raises RateLimited, and counts nothing, when its bucket holds too few."""
        self.check(sender, records)
        self.count(sender, records)

    def check(self, sender: str, records: int) -> None:
        """Raise RateLimited when a sender's bucket holds too few for these records.

        More records than the bucket can ever hold pass when it is full.
        """
        now = self._clock()
        wait = self._after(sender, records, now) - now - self._policy.burst / self._policy.rate
        # What is left of a float's last digit is not worth a refusal.
        if wait > 1e-9:  # noqa: PLR2004
            raise self._limited(wait, self._full_at[sender] - now if sender in self._full_at else 0.0)

    def count(self, sender: str, records: int) -> None:
        """Take records out of a sender's bucket."""
        self._full_at[sender] = self._after(sender, records, self._clock())
        self._full_at.move_to_end(sender)
        if len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)

    def _after(self, sender: str, records: int, now: float) -> float:
        """When the bucket would be full again, were these records taken out of it."""
        full_at = max(now, self._full_at.get(sender, now))
        return full_at + min(records, self._policy.burst) / self._policy.rate

    def _limited(self, wait: float, seconds_to_full: float) -> RateLimited:
        policy = self._policy
        left = max(0, int(policy.burst - seconds_to_full * policy.rate))
        seconds = max(1, ceil(wait))
        return RateLimited(
            f"more than {policy.rate:g} records a second for this {policy.name}; try again in {seconds} s",
            {
                "Retry-After": str(seconds),
                "RateLimit-Policy": policy.header,
                "RateLimit": f'"{policy.name}";r={left};t={seconds}',
            },
        )


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits that are on, each with its own account of senders."""

    project: RateLimit | None = None
    credential: RateLimit | None = None

    def take(self, project_id: str, credential: str | None, records: int) -> None:
        """Count records against each limit; raises RateLimited.

        `credential` must have been proved, or a forger would spend its owner's share; None has none.
        """
        if self.project is None and self.credential is None:
            return
        limits = [
            (limit, sender)
            for limit, sender in ((self.credential, credential), (self.project, project_id))
            if limit is not None and sender is not None
        ]
        for limit, sender in limits:
            limit.check(sender, records)
        # Only now: what one limit refuses must not be charged to the other.
        for limit, sender in limits:
            limit.count(sender, records)
