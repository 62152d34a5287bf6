"""What a good developer writes in an afternoon: validate by pydantic, publish by aio-pika, confirmed, answer."""

import asyncio
import sys
from decimal import Decimal
from typing import Annotated

import aio_pika
import uvloop
from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from bench.peers.bare import PATH, RECORDED

QUEUE = "bench.naive"


class Record(BaseModel):
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
    metric: Annotated[str, Field(min_length=1, max_length=128)]
    quantity: Annotated[Decimal, Field(max_digits=26, decimal_places=9)]


async def serve(port: int, amqp_url: str) -> None:
    connection = await aio_pika.connect_robust(amqp_url)
    channel = await connection.channel(on_return_raises=True)
    await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})

    async def record(request: web.Request) -> web.Response:
        try:
            usage = Record.model_validate_json(await request.read())
        except ValidationError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        body = usage.model_copy(update={"project": request.match_info["projectId"]}).model_dump_json().encode()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, QUEUE)
        return web.Response(body=RECORDED, content_type="application/json")

    app = web.Application()
    app.router.add_post(PATH, record)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve(int(sys.argv[1]), sys.argv[2]))
