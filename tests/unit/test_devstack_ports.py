"""Which ports count as free."""

import socket
import subprocess
import sys

import pytest

from devstack import ports
from devstack.ports import LOOPBACK, free_port, is_free


def test_a_port_is_free_again_as_soon_as_its_server_has_ended() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)) as server:
        assert not is_free(port)
        with socket.create_connection((LOOPBACK, port)):
            accepted, _ = server.accept()
            accepted.close()  # whoever closes first keeps the port for a minute, in TIME_WAIT
    assert is_free(port)


def test_a_port_is_given_to_one_process_only_as_long_as_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; from devstack.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        taken = int(other.stdout.readline())
        monkeypatch.setattr(ports, "CANDIDATES", range(taken, taken + 1))
        # nobody listens on it, but it is another's
        assert is_free(taken)
        with pytest.raises(OSError, match="no free port"):
            free_port()
    assert free_port() == taken
