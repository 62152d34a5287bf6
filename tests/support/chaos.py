"""Faults in an order and at moments that a seed decides."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from devstack import Service
from tests.support.deployment import Deployment
from tests.support.supervisor import Supervisor

Fault = Callable[[], Awaitable[None]]

ALARM = ("set_vm_memory_high_watermark", "0.00001")
NO_ALARM = ("set_vm_memory_high_watermark", "0.4")


class Chaos:
    """Breaks one thing after the other in a deployment: services on one track, processes on another at once."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        random = Random(seed)
        self.done: Counter[str] = Counter()
        """How often each fault came."""
        self._tracks = [track(deployment, Random(random.random()), self.done) for track in (_Services, _Processes)]

    @property
    def missed(self) -> set[str]:
        """The faults that have not come."""
        return {name for track in self._tracks for name in track.faults()} - self.done.keys()

    async def run(self, seconds: float) -> None:
        """Go on for so long, and until every fault has come; none comes again before. Returns when all is mended."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tracks:
            for track in self._tracks:
                tracks.create_task(track.run(until))


class _Track(ABC):
    """Faults that come one after the other."""

    def __init__(self, deployment: Deployment, random: Random, done: Counter[str]) -> None:
        self.deployment = deployment
        self.random = random
        self._done = done

    @abstractmethod
    def faults(self) -> dict[str, Fault]:
        """Each by its name; it returns when it is mended."""

    async def run(self, until: float) -> None:
        """Go on until this time of the event loop, and until every fault has come: on a slow machine that is later."""
        loop, faults = asyncio.get_running_loop(), self.faults()
        waiting: list[str] = []
        while loop.time() < until or faults.keys() - self._done.keys():
            waiting = waiting or self.random.sample(sorted(faults), len(faults))
            name = waiting.pop()
            await faults[name]()
            self._done[name] += 1
            await self.sleep(0.2, 1.5)  # the pace of the faults

    async def sleep(self, least: float, most: float) -> None:
        """Let some time pass that the seed decides."""
        await asyncio.sleep(self.random.uniform(least, most))


class _Services(_Track):
    """Broker and database, which break and are mended."""

    def faults(self) -> dict[str, Fault]:
        stack = self.deployment.stack
        return {
            "broker killed": partial(self._kill, stack.broker),
            "database killed": partial(self._kill, stack.database),
            "broker frozen": partial(self._freeze, stack.broker),
            "database frozen": partial(self._freeze, stack.database),
            "memory alarm": self._raise_alarm,
        }

    async def _kill(self, service: Service) -> None:
        self.deployment.note_kill()
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)

    async def _freeze(self, service: Service) -> None:
        await asyncio.to_thread(service.freeze)
        try:
            await self.sleep(1, 4)  # the length of the fault
        finally:
            await asyncio.to_thread(service.thaw)

    async def _raise_alarm(self) -> None:
        broker = self.deployment.stack.broker
        await asyncio.to_thread(broker.ctl, *ALARM)
        try:
            await self.sleep(0.5, 2)  # the length of the fault
        finally:
            await asyncio.to_thread(broker.ctl, *NO_ALARM)


class _Processes(_Track):
    """Ingest and workers, which are restarted, and the network between."""

    def faults(self) -> dict[str, Fault]:
        ingest, workers = self.deployment.ingest, self.deployment.workers
        killed = {f"worker {number} killed": partial(self._kill, one) for number, one in enumerate(workers, 1)}
        return {
            **killed,
            "ingest killed": partial(self._kill, ingest),
            "worker frozen": partial(self._freeze, workers[0]),
            "connections cut": self._cut,
        }

    async def _kill(self, supervisor: Supervisor) -> None:
        self.deployment.note_kill()
        await supervisor.kill()

    async def _freeze(self, supervisor: Supervisor) -> None:
        with supervisor.frozen():
            await self.sleep(0.5, 2)  # the length of the fault

    async def _cut(self) -> None:
        for network in self.deployment.networks:
            network.cut()
