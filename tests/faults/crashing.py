"""A worker that ends, as by a crash of its parser, on every message that holds a certain word."""

import os
import sys
from datetime import datetime

from contract.event import Decoded
from worker.__main__ import main
from worker.delivery import Delivery

DEADLY = b"deadly"

_decode = Delivery.decode


def _decode_or_die(delivery: Delivery, now: datetime) -> Decoded:
    if DEADLY in delivery.body:
        os._exit(139)
    return _decode(delivery, now)


if __name__ == "__main__":
    Delivery.decode = _decode_or_die  # type: ignore[method-assign, assignment]
    sys.exit(main())
