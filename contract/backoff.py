"""How long to wait before the next try."""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `first` up to `cap` seconds, with jitter, so that many processes do not return in step."""

    first: float
    cap: float

    def delay(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row, from half of the step to the whole of it."""
        step = min(self.cap, math.ldexp(self.first, min(failures - 1, 32)))
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
