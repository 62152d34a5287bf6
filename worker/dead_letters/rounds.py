"""One round through the dead letters, with an eye on those that are meant."""

from collections.abc import Callable

from worker.dead_letters.browsing import Browser, Held
from worker.dead_letters.selection import Selection, Tally

Pace = Callable[[int, int], bool]
"""Is told how many letters of how many have been read, and says whether to go on."""


class Round:
    """Window by window, until all were read or somebody says to stop."""

    def __init__(self, browser: Browser, selection: Selection, pace: Pace, *, most: int | None = None) -> None:
        """Prepare; `most` is how many letters are read at the most."""
        self._browser = browser
        self._selection = selection
        self._pace = pace
        self.count = browser.count if most is None else min(most, browser.count)
        """How many letters there are to read."""
        self.tally = Tally()

    async def next(self) -> list[Held] | None:
        """Return what is meant of the next window, which may be none of it; None at the end. Raises BrokerUnavailable.

        Whoever takes a letter notes it in `tally`.
        """
        left = self.count - self.tally.read
        if left <= 0 or not self._pace(self.tally.read, self.count):
            return None
        window = (await self._browser.next())[:left]
        self.tally.read += len(window)
        return [held for held in window if self._selection.takes(held.letter)] if window else None

    async def survey(self) -> Tally:
        """Count what is meant, and leave it where it is. Raises BrokerUnavailable."""
        while (meant := await self.next()) is not None:
            for held in meant:
                self.tally.note(held.letter)
        return self.tally
