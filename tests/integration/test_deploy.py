"""What stands in deploy/, tried with the supervisors it is for."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from devstack import Devstack
from tests.support.pair import Site
from tests.support.queue import Queue
from tests.support.waiting import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_what_systemd_takes(unit: Path, tmp_path: Path) -> None:
    """Where systemd's own check is installed; the rest is said by the next test."""
    text = unit.read_text()
    assert f"ExecStart=/opt/usage-ingest/bin/{unit.stem.removesuffix('@')}\n" in text
    if (analyze := shutil.which("systemd-analyze")) is None:
        return
    here = tmp_path / unit.name.replace("@", "@8080")
    here.write_text(text.replace("/opt/usage-ingest/bin", str(BIN)))
    checked = subprocess.run([analyze, "verify", str(here)], capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in checked.stderr.splitlines() if here.name in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_restarts_for_ever_but_not_on_settings_that_cannot_work(unit: Path) -> None:
    lines = set(unit.read_text().splitlines())
    assert lines >= {
        "Type=notify",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=78",
        "TimeoutStartSec=infinity",
        "WatchdogSec=30",
    }
    [stop] = [int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec=")]
    assert stop > 30 + 5


class Supervisord:
    """A supervisord with our configuration."""

    def __init__(self, configuration: Path, environment: dict[str, str]) -> None:
        self._configuration = configuration
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(BIN / "supervisord"),
            *("--nodaemon", "--configuration", str(self._configuration)),
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def ctl(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "supervisorctl"),
            *("--configuration", str(self._configuration), *arguments),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode()

    async def state(self, name: str) -> str:
        """Like RUNNING, or EXITED."""
        words = (await self.ctl("status", name)).split()
        return words[1] if len(words) > 1 else ""

    async def pid(self, name: str) -> int:
        text = (await self.ctl("pid", name)).strip()
        return int(text) if text.isdigit() else 0

    async def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            return await self._process.wait()

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.kill()
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def under_supervisord(site: Site, **settings: str) -> AsyncIterator[Supervisord]:
    """Both processes, with these settings, under supervisord."""
    directory = site.directory
    control = f"""
[unix_http_server]
file={directory}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/supervisor.sock
"""
    ours = (DEPLOY / "supervisord.conf").read_text()
    ours = re.sub(r"^(command=.*)$", rf"\1\nstderr_logfile={directory}/%(program_name)s.log", ours, flags=re.MULTILINE)
    ours = ours.replace("[supervisord]\n", f"[supervisord]\nlogfile={directory}/log\npidfile={directory}/pid\n")
    configuration = directory / "supervisord.conf"
    configuration.write_text(ours + control)
    environment = {
        "PATH": os.environ["PATH"],
        "USAGE_HOME": str(BIN.parent),
        "INGEST_AMQP_URL": site.amqp_url,
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": "0",
        "INGEST_ADMIN_PORT": "0",
        "WORKER_ADMIN_PORT": "0",
        "WORKER_AMQP_URL": site.amqp_url,
        "WORKER_MONGODB_URI": site.mongodb_uri,
        "WORKER_MONGODB_DATABASE": site.database,
        **settings,
    }
    supervisord = Supervisord(configuration, environment)
    await supervisord.start()
    try:
        yield supervisord
    finally:
        await supervisord.close()


INGEST, WORKER = "usage-ingest", "usage-worker:usage-worker-0"


def logged(site: Site, name: str, word: str) -> int:
    log = site.directory / f"{name}.log"
    return log.read_text().count(word) if log.exists() else 0


async def test_supervisord_starts_both_restarts_what_crashes_and_stops_in_order(site: Site, queue: Queue) -> None:
    del queue
    async with under_supervisord(site) as supervisord:
        await eventually(lambda: logged(site, "usage-ingest", "broker ready"))
        await eventually(lambda: logged(site, "usage-worker", "consuming"))
        # when each crashes, many times in a row
        for name, log, ready in ((INGEST, "usage-ingest", "broker ready"), (WORKER, "usage-worker", "consuming")):
            for times in (1, 2, 3):
                pid = await supervisord.pid(name)
                assert pid
                os.kill(pid, signal.SIGKILL)
                # then it is back
                await eventually(lambda: logged(site, log, ready) > times)  # noqa: B023 - awaited at once
            assert await supervisord.state(name) == "RUNNING"
        # and a stop is a clean one
        assert await supervisord.stop() == 0
    for log in ("usage-ingest", "usage-worker"):
        assert logged(site, log, '"event": "stopped"') == 1


async def test_supervisord_does_not_restart_on_settings_that_cannot_work(
    site: Site, stack: Devstack, queue: Queue
) -> None:
    del stack, queue
    async with under_supervisord(site, WORKER_MONGODB_URI="no uri") as supervisord:

        async def exited() -> bool:
            return await supervisord.state(WORKER) == "EXITED"

        await eventually(exited, every=0.2)
        await eventually(lambda: logged(site, "usage-ingest", "broker ready"))
        # then it was started once, and said what to change
        assert logged(site, "usage-worker", "WORKER_MONGODB_URI is wrong") == 1
