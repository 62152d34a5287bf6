"""Where a stack keeps its files."""

import subprocess
import tempfile
from pathlib import Path

# A shell, since it costs 1 ms where a Python costs 40. Its standard input is a pipe we hold, so it wakes up when we
# close it or die. Servers of a caller that was killed may write for some moments more, hence the rounds.
_REMOVER = """
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf -- "$0" 2>/dev/null && exit
    sleep 0.5
done
"""


class KeptDirectory:
    """A directory of the caller's choice, which outlives the stack. Raises ValueError unless it is new or empty."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            # A stack of another day wrote its ports into its data, and would not find itself.
            raise ValueError(f"{path} is not empty; a stack starts with no data")
        self.path = path.resolve()

    def close(self) -> None:
        """Leave it as it is."""


class VanishingDirectory:
    """A new directory for temporary files (TMPDIR says where); it goes with this process, however that ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="devstack-"))
        self._remover = subprocess.Popen(
            ["/bin/sh", "-c", _REMOVER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Remove it now."""
        if self._remover.stdin is not None:
            self._remover.stdin.close()
        self._remover.wait()
