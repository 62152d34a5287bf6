"""The broker: whether it lets us in, has what we need, and takes messages."""

import asyncio
import re
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from aio_pika.abc import AbstractQueue
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from yarl import URL

from contract import topology
from contract.connection import BrokerConnection, BrokerMisconfigured, BrokerUnavailable, connect, translated
from preflight.check import Check

NAME: Final = "broker"
ALARMS: Final = "broker's alarms"

OLDEST: Final = (3, 10)
"""The first RabbitMQ whose quorum queues dead-letter at least once."""

SLOWEST_HEARTBEAT: Final = 60
"""Seconds; a dead peer is noticed after three times as long."""

_MAKE_USER: Final = (
    "`rabbitmqctl add_vhost`, `add_user`, and `set_permissions -p VHOST USER '^usage' '^usage' '^usage'`"
)

Part = topology.Exchange | topology.Queue


async def check_broker(url: str, *, variable: str, seconds: float) -> list[Check]:
    """Look at it for so many seconds, at the most; `variable` is the setting that holds the URL."""
    found: list[Check] = []
    address = _address(URL(url))
    start = f"start it, or set {variable} to where it is; the process waits for it"
    try:
        async with (
            asyncio.timeout(seconds) as limit,
            connect(url, name="usage-check", declare=False) as connection,
        ):
            found += [check_server(connection.server, address), check_heartbeat(connection.heartbeat, variable)]
            for part in topology.PARTS:
                found.append(await _check_part(connection, part))
            found.append(await _check_alarms(connection))
            # Closing has a limit of its own, which in an alarm is reached.
            limit.reschedule(None)
    except BrokerMisconfigured as exc:
        found.append(Check.wrong(NAME, str(exc), f"correct {variable}, or make what it names: {_MAKE_USER}"))
    except TimeoutError:
        found.append(Check.away(NAME, f"{address} did not answer within {seconds:g} s", start))
    except BrokerUnavailable as exc:
        found.append(Check.away(NAME, f"{address} cannot be used: {exc}", start))
    return found


def _address(url: URL) -> str:
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"


def check_server(server: Any, address: str) -> Check:
    """Judge its version, by what it says of itself."""
    product, version = (_text(server.get(name)) for name in ("product", "version"))
    told = f"{product} {version} at {address}"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if product == "RabbitMQ" and numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        return Check.wrong(NAME, f"{told} is too old", "update it to RabbitMQ 3.10 or later")
    return Check.ok(NAME, f"{told} lets us in")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def check_heartbeat(seconds: int, variable: str) -> Check:
    """Judge how soon a dead broker will be noticed."""
    name, mend = "heartbeat", f"leave heartbeat out of {variable}: every 10 s is the default"
    if not seconds:
        return Check.warning(name, "none is sent, so a broker that has died is not noticed", mend)
    if seconds > SLOWEST_HEARTBEAT:
        return Check.warning(name, f"every {seconds} s, so a broker that has died is noticed after minutes", mend)
    return Check.ok(name, f"every {seconds} s")


async def _check_part(connection: BrokerConnection, part: Part) -> Check:
    name = f"{part.kind} {part.name}"
    with translated():
        try:
            described = await _ask(connection, part, passive=True)
            # A passive one does not look at arguments. Of what is there, this one creates nothing: the broker compares,
            # and says what differs. Should somebody delete it in between, it is made as the process would make it.
            await _ask(connection, part, passive=False)
        except ChannelNotFoundEntity:
            return Check.ok(name, "is not there yet; the process makes it when it connects")
        except ChannelPreconditionFailed as exc:
            return Check.wrong(name, f"exists with other arguments: {exc}", _remake(part))
        except ChannelLockedResource as exc:
            return Check.wrong(name, f"belongs to another connection alone: {exc}", _remake(part))
        except ChannelAccessRefused as exc:
            return Check.wrong(name, f"the user may not declare it: {exc}", f"let it: {_MAKE_USER}")
    return Check.ok(name, f"is as it must be{described}")


def _remake(part: Part) -> str:
    if isinstance(part, topology.Queue):
        return (
            "have what is in it consumed, or moved by a shovel; then `rabbitmqctl delete_queue "
            f"{part.name}`, and the process makes it anew, or use another virtual host"
        )
    return f"delete {part.name} in the management UI, and the process makes it anew, or use another virtual host"


async def _ask(connection: BrokerConnection, part: Part, *, passive: bool) -> str:
    """Declare it, and spell what the broker says of it. On a channel of its own: a refusal closes that."""
    channel = await connection.channel()
    declared = await part.declare(channel, passive=passive)
    await channel.close()
    if not isinstance(declared, AbstractQueue):
        return ""
    result = declared.declaration_result
    return f"; ready {result.message_count:,}, consumers {result.consumer_count:,}"


async def _check_alarms(connection: BrokerConnection) -> Check:
    """Find out whether it takes messages, which it tells only those that publish: so publish where nothing can arrive.

    To be asked last: in an alarm the broker reads nothing more from this connection.
    """
    driver = await connection.driver_channel()
    with translated():
        with suppress(ChannelNotFoundEntity, ChannelAccessRefused):
            await driver.basic_publish(b"", exchange=f"usage.check-{uuid4()}", routing_key="")
        try:
            async with asyncio.timeout(0.1):
                await driver.connection.ready()
        except TimeoutError:
            mend = "give it memory or disk: `rabbitmq-diagnostics alarms` says which; then it goes on by itself"
            return Check.away(ALARMS, "it is short of memory or disk, and takes no messages", mend)
    return Check.ok(ALARMS, "none: it takes messages")
