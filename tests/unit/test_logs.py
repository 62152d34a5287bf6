"""What a process logs, by real processes: it is set up once for a process's whole life."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 60.0

PROGRAM = """
import asyncio, gc, logging, sys, threading, warnings
import structlog
from runtime import logs
log = structlog.get_logger()
logs.configure("DEBUG", secrets={{"hunter2-geheim"}})
{body}
"""


def program(body: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(body=dedent(body))]


def logged(body: str) -> list[dict[str, Any]]:
    """The lines of a process that runs `body`; each is JSON, and nothing else is written."""
    run = subprocess.run(program(body), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert run.stdout == ""
    return [json.loads(line) for line in run.stderr.splitlines()]


def test_a_line_is_one_json_object_with_its_level_and_time() -> None:
    [line] = logged("log.debug('batch', messages=2)")
    assert {name: line[name] for name in ("event", "level", "messages")} == {
        "event": "batch",
        "level": "debug",
        "messages": 2,
    }
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "event", "exception"),
    [
        ("logging.getLogger('aiohttp.server').error('Error %s', 'x')", "Error x", ""),
        ("warnings.warn('beware')", "beware", ""),
        ("raise RuntimeError('a bug')", "uncaught exception", "RuntimeError: a bug"),
        (
            """
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
            """,
            "uncaught exception",
            "ZeroDivisionError",
        ),
        (
            """
            class Broken:
                def __del__(self):
                    raise RuntimeError("in the end")
            Broken()
            """,
            "uncaught exception",
            "RuntimeError: in the end",
        ),
        (
            """
            async def main():
                async def fail():
                    raise RuntimeError("unseen")
                task = asyncio.create_task(fail())
                await asyncio.wait([task])
                del task
                gc.collect()
            asyncio.run(main())
            """,
            "Task exception was never retrieved",
            "RuntimeError: unseen",
        ),
    ],
    ids=["logger", "warning", "uncaught", "thread", "destructor", "task"],
)
def test_what_libraries_and_python_say_is_a_line_like_ours(body: str, event: str, exception: str) -> None:
    [line] = logged(body)
    assert event in line["event"]
    assert exception in line.get("exception", "")
    assert line["level"] in {"warning", "error", "critical"}


def test_what_libraries_say_below_a_warning_is_left_out() -> None:
    assert logged("logging.getLogger('pymongo.command').info('insert'); logging.getLogger('x').debug('y')") == []


def test_no_part_of_a_line_holds_a_secret() -> None:
    lines = logged("""
        try:
            raise ValueError("amqp://me:hunter2-geheim@broker/ of name@example.com")
        except ValueError as exc:
            log.exception("failed", error=exc, tried=["hunter2-geheim", {"who": "name@example.com"}])
            logging.getLogger("aiohttp.server").exception("failed: %r", exc)
    """)
    assert len(lines) == 2
    text = json.dumps(lines)
    assert "hunter2-geheim" not in text
    assert "name@example.com" not in text
    assert text.count("amqp://***@broker/") == 4


def test_a_log_that_cannot_be_written_ends_no_work() -> None:
    body = "log.info('lost'); logging.getLogger('x').error('lost, too'); print('done')"
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=full, timeout=LIMIT, check=False)
    assert run.stdout == b"done\n"


def test_on_a_terminal_lines_are_for_a_person() -> None:
    ours, theirs = pty.openpty()
    body = "log.warning('broker lost', error='gone'); 1 / 0"
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(program(body), cwd=ROOT, stdout=theirs, stderr=theirs)
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # which says that nobody writes any more
            while part := terminal.read(65536):
                written += part
        process.wait(LIMIT)
    text = written.decode()
    assert "broker lost" in text
    assert "\x1b[" in text  # coloured
    assert "ZeroDivisionError: division by zero" in text
    assert not text.startswith("{")
