"""The limit of what any aiohttp service can do: read the body, answer."""

import asyncio
import sys

import uvloop
from aiohttp import web

PATH = "/api/billing/public/projects/{projectId}/usage"
RECORDED = b'{"message": "Usage recorded successfully"}'


async def record(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=RECORDED, content_type="application/json")


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post(PATH, record)
    app.router.add_post(f"{PATH}/batch", record)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve(int(sys.argv[1])))
