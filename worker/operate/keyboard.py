"""Hearing of one key while the screen is in use."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heard(key: str, then: Callable[[], None]) -> Iterator[None]:
    """Call `then` when the key is pressed during this block; without a terminal nobody can press one."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def on_input() -> None:
        # Past the buffer of sys.stdin, in which what comes after the first key would lie unseen.
        if key.encode() in os.read(descriptor, 1024):
            then()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, on_input)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
