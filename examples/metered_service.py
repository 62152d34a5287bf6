"""A service that meters its own calls: it answers at once, and records on the queue in the background.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/ python examples/metered_service.py
    curl 'http://127.0.0.1:8090/translate?text=hello&customer=amari_koss69@northwind.dev' -H 'X-Request-Id: call-1'

It needs this project's package. The same call, sent again under its request id, is metered once.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Final
from uuid import uuid4

from aiohttp import web

from contract.connection import BrokerUnavailable
from contract.event import Unacceptable
from contract.producer import UsageProducer
from contract.publisher import NotConfirmed, Refused

PROJECT: Final = "proj_nCBo0AB7UWpj"

log = logging.getLogger("metered_service")


class Meter:
    """Records usage while the service goes on, and is done with all of it before the service ends."""

    def __init__(self, usage: UsageProducer) -> None:
        self._usage = usage
        self._under_way: set[asyncio.Task[None]] = set()

    def count(self, customer: str, metric: str, quantity: int, key: str) -> None:
        """Record in the background; `key` names this usage for ever, so that it counts once."""
        task = asyncio.create_task(self._record(customer, metric, quantity, key))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _record(self, customer: str, metric: str, quantity: int, key: str) -> None:
        try:
            await self._usage.record(PROJECT, customer, metric, quantity, idempotency_key=key)
        except (BrokerUnavailable, Refused, NotConfirmed, Unacceptable):
            # After half a minute of trying. Under the same key it can be recorded from here later, and counts once.
            log.exception("not recorded: %s, %s, %s, key %s", customer, metric, quantity, key)

    async def finish(self) -> None:
        """Return when nothing is under way any more."""
        await asyncio.gather(*self._under_way)


METER: Final = web.AppKey("meter", Meter)


async def metering(app: web.Application) -> AsyncIterator[None]:
    """Have a meter for as long as the service runs: one for all requests, for what they record travels together."""
    async with UsageProducer(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")) as usage:
        app[METER] = Meter(usage)
        yield
        await app[METER].finish()


async def translate(request: web.Request) -> web.Response:
    """Do what the service is for, and meter it."""
    text = request.query["text"]
    key = request.headers.get("X-Request-Id", str(uuid4()))
    request.app[METER].count(request.query["customer"], "characters translated", len(text), key)
    return web.json_response({"translation": text[::-1]})


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO)
    app = web.Application()
    app.cleanup_ctx.append(metering)
    app.router.add_get("/translate", translate)
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8090")))


if __name__ == "__main__":
    main()
