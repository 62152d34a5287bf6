"""Whether this machine's clock can be relied on."""

import ctypes
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from preflight.check import Check

NAME: Final = "clock"

NEAR: Final = timedelta(seconds=2)
"""What two clocks that are kept right never differ by."""

FAR: Final = timedelta(minutes=5)
"""What ingest takes, by default, of a timestamp in the future: beyond, a right one is refused."""

_UNSYNCHRONIZED: Final = 5
_MEND: Final = "let chrony or systemd-timesyncd keep it right, and look at `timedatectl`"


class _Timex(ctypes.Structure):
    """What adjtimex(2) fills in; only `modes`, 0, is ours: nothing is to be adjusted."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 512))


def kernel_clock_state() -> int | None:
    """What adjtimex(2) returns: 5 when nobody keeps the clock right; None where there is no such call."""
    if sys.platform != "linux":
        return None
    state = int(ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex())))
    return state if state >= 0 else None


def check_synchronized(state: Callable[[], int | None] = kernel_clock_state) -> Check:
    """Ask the kernel whether something keeps its clock right."""
    match state():
        case None:
            return Check.ok(NAME, "this system does not tell whether something keeps it right")
        case code if code == _UNSYNCHRONIZED:
            return Check.warning(NAME, "the kernel knows of nothing that keeps it right", _MEND)
        case _:
            return Check.ok(NAME, "it is kept right")


def check_difference(ours: datetime, theirs: datetime, *, of: str) -> Check:
    """Compare this machine's clock with another's at the same moment."""
    name = f"{NAME}, by {of}"
    found = f"ours is {abs(ours - theirs).total_seconds():.3f} s {'ahead' if ours > theirs else 'behind'}"
    if abs(ours - theirs) > FAR:
        return Check.wrong(
            name, f"{found}: right timestamps are refused, wrong ones taken", _MEND + ", on both machines"
        )
    if abs(ours - theirs) > NEAR:
        return Check.warning(name, found, _MEND + ", on both machines")
    return Check.ok(name, found)
