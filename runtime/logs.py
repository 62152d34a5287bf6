"""What is logged, in which form: one pipeline for our lines and those of libraries."""

import logging
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.redaction import redact_value

log = structlog.get_logger(__name__)

_QUIET: Final = ("aiormq", "aio_pika", "pymongo")
"""The drivers report every lost connection with tracebacks; we say it once, in our words."""


class _Unfailing:
    """A stream on which a line that cannot be written is lost: with its disk full, the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str, *, secrets: Collection[str] = ()) -> None:
    """Log lines of `level` and above to stderr: readable on a terminal, else one JSON object a line.

    Warnings and errors of libraries, and what nobody caught, are such lines, too; what libraries say below that may
    hold anything, and is left out. No line holds one of the `secrets`, or anything else that must not be read.
    """
    out: Any = _Unfailing(sys.stderr)
    pipeline = _pipeline(secrets)
    renderer = _renderer()
    structlog.configure(
        processors=[*pipeline, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _take_in_libraries(out, pipeline, renderer, level=max(logging.getLevelNamesMapping()[level], logging.WARNING))
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda it: _uncaught(it.exc_type, it.exc_value, it.exc_traceback)
    threading.excepthook = lambda it: _uncaught(it.exc_type, it.exc_value, it.exc_traceback)


def _pipeline(secrets: Collection[str]) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        partial(_redacted, secrets=secrets),
    ]


def _redacted(_: WrappedLogger, __: str, line: EventDict, *, secrets: Collection[str]) -> EventDict:
    return {name: value if name.startswith("_") else redact_value(value, secrets) for name, value in line.items()}


def _renderer() -> Processor:
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer()


def _take_in_libraries(out: Any, pipeline: list[Processor], renderer: Processor, *, level: int) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *pipeline],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _uncaught(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
    if exc is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc or kind(), trace)
    else:
        log.critical("uncaught exception", exc_info=(kind, exc, trace))
