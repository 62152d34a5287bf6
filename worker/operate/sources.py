"""Where the numbers of a running system come from; what does not answer is away, and nothing more."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from contract import topology
from contract.connection import BrokerConnection, BrokerMisconfigured, BrokerUnavailable, connect
from worker.glance import depth_of
from worker.operate.window import Look, parse_samples

PATIENCE: Final = 2.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class Away:
    """It did not answer, or not as it should."""

    why: str


@dataclass(frozen=True, slots=True)
class Queues:
    """What the broker says."""

    ready: int
    """Messages that no worker has yet."""
    consumers: int
    dead_letters: int


class Processes:
    """Reads the admin ports of processes."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are the bases, as http://127.0.0.1:9101."""
        self._urls = urls
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def look(self) -> list[Look | Away]:
        """Read all of them at once, in their order."""
        return list(await asyncio.gather(*map(self._look, self._urls)))

    async def _look(self, url: str) -> Look | Away:
        try:
            samples = parse_samples(await self._get(url, "/metrics"))
            return Look(time.monotonic(), samples, await self._unready(url))
        except TimeoutError:
            return Away("does not answer")
        except aiohttp.ClientConnectionError:
            return Away("nobody is there")
        except (aiohttp.ClientError, ValueError):
            return Away("this is no admin port of ours")

    async def _unready(self, url: str) -> dict[str, str]:
        async with self._session.get(f"{url}/readyz") as response:
            told = await response.json()
        return {name: str(why) for name, why in told.items() if name != "status"}

    async def _get(self, url: str, path: str) -> str:
        async with self._session.get(f"{url}{path}", raise_for_status=True) as response:
            return await response.text()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("use it inside its async with statement")
        return self._http


class Broker:
    """Asks the broker for the depths of the queues, on one connection for as long as that lasts."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = AsyncExitStack()
        self._connection: BrokerConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def look(self) -> Queues | Away:
        """Ask for all of them."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._depths()
        except TimeoutError:
            why = "does not answer"
        except (BrokerUnavailable, BrokerMisconfigured) as exc:
            why = str(exc)
        self._connection = None
        await self._open.aclose()
        return Away(why)

    async def _depths(self) -> Queues:
        if self._connection is None:
            self._connection = await self._open.enter_async_context(connect(self._url, name="usage-top"))
        queue = await depth_of(self._connection, topology.QUEUE)
        dead = await depth_of(self._connection, topology.DEAD_QUEUE)
        return Queues(queue.ready, queue.consumers, dead.ready)
