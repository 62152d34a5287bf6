"""Which ports count as free."""

import socket

from devstack.ports import LOOPBACK, free_port, is_free


def test_a_port_is_free_again_as_soon_as_its_server_has_ended() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)) as server:
        assert not is_free(port)
        with socket.create_connection((LOOPBACK, port)):
            accepted, _ = server.accept()
            accepted.close()  # whoever closes first keeps the port for a minute, in TIME_WAIT
    assert is_free(port)
