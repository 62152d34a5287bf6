"""Ingest with several workers, as they run in production: each under a supervisor, on ports that stay."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from yarl import URL

from devstack import Devstack
from devstack.ports import LOOPBACK, free_port
from devstack.proxy import Proxy
from tests.support.pair import Site, end_transactions
from tests.support.supervisor import Supervisor, supervised


@dataclass
class Deployment:
    """What can be broken."""

    stack: Devstack
    site: Site
    url: str
    """The base of ingest's public port, over all its lives."""
    ingest: Supervisor
    workers: list[Supervisor]
    networks: list[Proxy]
    """Ingest's way to the broker, and the last worker's to the broker and the database."""
    kills: list[datetime] = field(default_factory=list)

    def note_kill(self) -> None:
        """Something is about to be killed."""
        self.kills.append(datetime.now(UTC))

    @property
    def exits(self) -> set[int]:
        """All codes with which processes ended so far."""
        return {code for one in (self.ingest, *self.workers) for code in one.exits}


@asynccontextmanager
async def deployed(stack: Devstack, site: Site, *, workers: int = 2) -> AsyncIterator[Deployment]:
    """Run it for the length of a block; all of it works when the block begins."""
    async with AsyncExitStack() as block:
        block.push_async_callback(end_transactions, site.mongodb_uri)
        to_broker = await block.enter_async_context(proxy_of(site.amqp_url))
        worker_to_broker = await block.enter_async_context(proxy_of(site.amqp_url))
        worker_to_database = await block.enter_async_context(proxy_of(site.mongodb_uri))
        port = free_port()
        last = site.worker(
            f"worker-{workers}",
            amqp_url=_through(worker_to_broker, site.amqp_url),
            mongodb_uri=str(URL(_through(worker_to_database, site.mongodb_uri)).with_query(directConnection="true")),
        )
        others = [site.worker(f"worker-{number}") for number in range(1, workers)]
        ingest = site.ingest(port=str(port), amqp_url=_through(to_broker, site.amqp_url))
        yield Deployment(
            stack,
            site,
            f"http://{LOOPBACK}:{port}",
            await block.enter_async_context(supervised(ingest)),
            [await block.enter_async_context(supervised(worker)) for worker in [*others, last]],
            [to_broker, worker_to_broker, worker_to_database],
        )


def proxy_of(url: str) -> Proxy:
    """A way to the service of this URL that can be broken; not yet open."""
    target = URL(url)
    assert target.host is not None
    assert target.port is not None
    return Proxy(target.host, target.port)


def _through(proxy: Proxy, url: str) -> str:
    return str(URL(url).with_host(LOOPBACK).with_port(proxy.port))
