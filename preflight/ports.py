"""Whether a port can be listened on."""

import errno
import socket
from typing import Final

import aiohttp

from preflight.check import Check

PATIENCE: Final = 1.0
"""Seconds for whoever listens there to say who it is."""

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def check_port(
    name: str, host: str, port: int, *, variables: tuple[str, str], reuse: bool = False, is_replaceable: bool = False
) -> Check:
    """Look whether it is free, or a process of ours is there already.

    `variables` are those of the host and of the port. One that is replaceable makes way for a free one.
    """
    at, (host_variable, port_variable) = f"{host}:{port}", variables
    if port == 0:
        return Check.ok(name, "a free one will be taken")
    try:
        _try_to_bind(host, port, reuse=reuse)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            mend = f"set {host_variable} to an address of this machine, and {port_variable} to a port its user may use"
            return Check.wrong(name, f"{at} cannot be used: {exc.strerror}", mend)
    else:
        return Check.ok(name, f"{at} is free")
    if await _is_ours(host, port):
        return Check.ok(name, f"{at} is in use by a process of ours, which answers")
    found = f"{at} is in use by something else"
    mend = f"set {port_variable} to another port, or end what listens there: `ss -ltnp 'sport = :{port}'`"
    if is_replaceable:
        return Check.warning(name, f"{found}, so a free one will be taken", mend)
    return Check.wrong(name, found, mend)


def _try_to_bind(host: str, port: int, *, reuse: bool) -> None:
    # Without listening: where ports are shared, the kernel would deal out connections to us.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind((host, port))


async def _is_ours(host: str, port: int) -> bool:
    address = _EVERYWHERE.get(host, host)
    url = f"http://[{address}]:{port}/healthz" if ":" in address else f"http://{address}:{port}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http,
            http.get(url) as answer,
        ):
            return bool(await answer.json() == {"status": "ok"})
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
