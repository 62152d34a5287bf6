"""Choose TCP ports on the loopback interface."""

import random
import socket
import sys

LOOPBACK = "127.0.0.1"
CANDIDATES = range(20_000, 32_000)
"""Below the range the kernel gives to outgoing connections (32768 on Linux): a port from inside it may be taken by
any client while its server is down, even by the client that tries to reach that server."""

_handed_out: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, never given twice by this process, nor by another that runs beside it."""
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if port not in _handed_out and is_free(port) and _claim(port):
            _handed_out.add(port)
            return port
    raise OSError(f"no free port between {CANDIDATES.start} and {CANDIDATES.stop} on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether a server could listen on it now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: not kept by connections that ended
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Have it for this process's life, also while its server is down: no other process that asks here is given it."""
    if sys.platform != "linux":  # has no names that end with the process
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0devstack-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()
    return True
