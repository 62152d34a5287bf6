"""A listening socket, from which all who wait are let in at once."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from contract.incident import Incident

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""

_AT_ONCE: Final = 128
"""Connections that are accepted before it is somebody else's turn."""

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE: Final = 1.0
"""Seconds without an attempt when there is no file descriptor, or no memory, for another connection."""


class Listener:
    """Accepts connections, each for a protocol of its own.

    A loop's own server does not do: libuv, and so uvloop, accepts one connection a turn. A turn of a process under load
    takes milliseconds, so that a thousand clients who connect at once, as after a restart, would wait for seconds, and
    whoever asks for its health behind them.
    """

    def __init__(self, sock: socket.socket, new_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Prepare; the socket listens already, and is closed with this."""
        self._sock = sock
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._shortage = Incident("no connection can be accepted", "connections are accepted again")

    def start(self) -> None:
        """Accept from now on."""
        self._sock.settimeout(0)
        self._resume()

    async def close(self) -> None:
        """Accept nobody else; return when all who were accepted have their protocol."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() != -1:  # not closed before
            self._loop.remove_reader(self._sock)
            self._sock.close()
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _SHORTAGES:
                    raise
                self._shortage.note(error=exc.strerror)
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(_PAUSE, self._resume)
                return
            self._shortage.end()
            arrival = self._loop.create_task(self._let_in(connection))
            self._arriving.add(arrival)
            arrival.add_done_callback(self._arriving.discard)

    async def _let_in(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        try:
            await self._loop.connect_accepted_socket(self._new_protocol, connection)
        except OSError:  # the client is gone
            connection.close()
