"""What is logged, in which form."""

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Log lines of `level` and above to stderr: readable on a terminal, else one JSON object a line."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level, stream=sys.stderr)
    # The drivers report every lost connection with tracebacks; we say it once, in our words.
    for name in ("aiormq", "aio_pika", "pymongo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
