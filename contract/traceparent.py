"""The header by which a trace goes on from one process to the next, over HTTP as over AMQP."""

import re
from typing import Final

TRACEPARENT: Final = "traceparent"
"""https://www.w3.org/TR/trace-context/: version, trace, span and flags, in hexadecimal."""

RULE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
