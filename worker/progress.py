"""How far a long run is, on stderr."""

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

TERMINAL_SECONDS: Final = 0.2
LOG_SECONDS: Final = 5.0


class Progress:
    """Says so in one line that is written over on a terminal, elsewhere in a new line every few seconds."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; a run that is over before the first line is due says nothing."""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._seconds = TERMINAL_SECONDS if self._is_terminal else LOG_SECONDS
        self._said_at = clock()
        self._is_open = False

    def note(self, done: int, total: int) -> None:
        """`done` of `total` letters are read."""
        now = self._clock()
        if now - self._said_at >= self._seconds:
            self._said_at = now
            self._say(f"{done:,} of {total:,} letters read")

    def _say(self, text: str) -> None:
        # A terminal's line is cleared to its end: the next may be shorter.
        self._stream.write(f"\r{text}\x1b[K" if self._is_terminal else f"{text}\n")
        self._stream.flush()
        self._is_open = self._is_terminal

    def close(self) -> None:
        """Leave the terminal clean for what follows."""
        if self._is_open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_open = False
