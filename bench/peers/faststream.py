"""The same with FastAPI and FastStream, as their documentation does it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated

import uvicorn
from fastapi import FastAPI
from faststream.rabbit import QueueType, RabbitBroker, RabbitQueue
from pydantic import BaseModel, Field

QUEUE = RabbitQueue("bench.faststream", queue_type=QueueType.QUORUM, durable=True)


class Record(BaseModel):
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
    metric: Annotated[str, Field(min_length=1, max_length=128)]
    quantity: Annotated[Decimal, Field(max_digits=26, decimal_places=9)]


def create_app(amqp_url: str) -> FastAPI:
    broker = RabbitBroker(amqp_url, logger=None)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with broker:
            await broker.start()
            await broker.declare_queue(QUEUE)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/api/billing/public/projects/{project}/usage")  # type: ignore[untyped-decorator]
    async def record(project: str, usage: Record) -> dict[str, str]:
        body = {"project": project, **usage.model_dump(mode="json")}
        await broker.publish(body, QUEUE, persist=True, mandatory=True)
        return {"message": "Usage recorded successfully"}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
    )
