"""The credentials in force, kept up to date with their files."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import structlog
from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from ingest.api_keys import Keyring
from ingest.auth import Access, Modes
from ingest.credential_files import CredentialsUnusable, load_keyring, load_secrets
from ingest.signatures import Secrets
from runtime.supervision import Misconfigured, pause

log = structlog.get_logger(__name__)

ValueT = TypeVar("ValueT")


def _parse_modes(value: object) -> object:
    return Modes.parse(value) if isinstance(value, str) else value


AuthModes = Annotated[Modes, NoDecode, BeforeValidator(_parse_modes)]
"""The type of the setting INGEST_AUTH."""


class _WatchedFile(Generic[ValueT]):
    """A file's value, as it was when the file was last in order."""

    def __init__(self, setting: str, mode: str, path: Path | None, load: Callable[[Path], ValueT]) -> None:
        if path is None:
            raise Misconfigured(f"INGEST_AUTH has {mode}, so {setting} is needed: the path of a file")
        self._setting = setting
        self._path = path
        self._load = load
        self._stamp = self._look()
        try:
            self.value = load(path)
        except CredentialsUnusable as exc:
            raise Misconfigured(f"{setting} cannot be used: {exc}") from exc

    def refresh(self, *, forced: bool) -> bool:
        """Read the file again if it has changed, and say whether the value is a new one."""
        stamp = self._look()
        if stamp == self._stamp and not forced:
            return False
        # Before reading: what is written meanwhile is found next time.
        self._stamp = stamp
        try:
            self.value = self._load(self._path)
        except CredentialsUnusable as exc:
            log.warning("credentials kept as they were", setting=self._setting, error=str(exc))
            return False
        log.info("credentials read again", setting=self._setting)
        return True

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The time of change, too: a copy may keep that of modification.
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Credentials:
    """The access there is now; `access` is replaced as a whole when a file of credentials changes."""

    def __init__(
        self, modes: Modes, *, api_keys_file: Path | None = None, signing_secrets_file: Path | None = None
    ) -> None:
        """Read what the modes need; raises Misconfigured."""
        self._modes = modes
        self._keyring = (
            _WatchedFile("INGEST_API_KEYS_FILE", "api-key", api_keys_file, load_keyring) if modes.api_key else None
        )
        self._secrets = (
            _WatchedFile("INGEST_SIGNING_SECRETS_FILE", "signature", signing_secrets_file, load_secrets)
            if modes.signature
            else None
        )
        self.access = self._build()

    @asynccontextmanager
    async def watching(self, *, seconds: float = 1.0) -> AsyncIterator[None]:
        """Look at the files every so many seconds, and read them at SIGHUP; without files, do nothing."""
        if self._keyring is None and self._secrets is None:
            yield
            return
        loop = asyncio.get_running_loop()
        hangup = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
        task = asyncio.create_task(self._watch(hangup, seconds))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            loop.remove_signal_handler(signal.SIGHUP)

    async def _watch(self, hangup: asyncio.Event, seconds: float) -> None:
        while True:
            await pause(seconds, hangup)
            forced = hangup.is_set()
            hangup.clear()
            try:
                # In a thread: the disk may be slow, and so is reading many keys.
                changed = await asyncio.to_thread(self._refresh, forced=forced)
            except Exception:
                log.exception("credentials kept as they were")  # a bug, but no reason to turn callers away
                continue
            if changed:
                self.access = self._build()

    def _refresh(self, *, forced: bool) -> bool:
        files = [file for file in (self._keyring, self._secrets) if file is not None]
        return any([file.refresh(forced=forced) for file in files])  # noqa: C419 - each of them

    def _build(self) -> Access:
        return Access(
            self._modes,
            self._keyring.value if self._keyring else Keyring(),
            self._secrets.value if self._secrets else Secrets(),
        )
