"""What this package has to say, in the logs of whichever program it is part of."""

import logging
from functools import partial
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

_UNCONFIGURED: Final = (
    structlog.stdlib.filter_by_level,
    structlog.processors.KeyValueRenderer(key_order=["event"]),
)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that writes as the program has configured structlog, or else as it has configured `logging`.

    Left to itself, structlog prints every line, those at debug too, to stdout, which is the program's own.
    """
    # Not decided here: modules ask for their loggers when they are imported, before a program configures anything.
    wrapper: Any = partial(_bound, name)
    logger: FilteringBoundLogger = structlog.wrap_logger(None, wrapper_class=wrapper, logger_factory_args=(name,))
    return logger


def _bound(name: str, logger: Any, *, processors: Any, context: Any) -> Any:
    if structlog.is_configured():
        return structlog.get_config()["wrapper_class"](logger, processors=processors, context=context)
    return structlog.stdlib.BoundLogger(logging.getLogger(name), _UNCONFIGURED, context)
