"""The code that the page offers to copy, run as its reader would run it."""

import asyncio
import os
import sys
from pathlib import Path

import playwright

from tests.support.waiting import LONG

# Playwright brings one along, so that no other has to be installed.
_NODE = str(Path(playwright.__file__).parent / "driver" / "node")

_COMMANDS = {
    "cURL": ("bash", "-euo", "pipefail", "-c"),
    "Python": (sys.executable, "-c"),
    "JavaScript": (_NODE, "--input-type=module", "-e"),
}

SUCCESS = {"cURL": "HTTP/1.1 200 OK", "Python": "Usage recorded successfully", "JavaScript": "200 {"}
"""What each prints when its record was taken."""


async def run_snippet(language: str, code: str, *, key: str = "", seconds: float = LONG) -> str:
    """What it prints; `key` is the API key in the environment."""
    process = await asyncio.create_subprocess_exec(
        *_COMMANDS[language],
        code,
        env={**os.environ, "USAGE_API_KEY": key},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(seconds):
        output, errors = await process.communicate()
    assert process.returncode == 0, f"{code}\n{errors.decode()}"
    return output.decode()
