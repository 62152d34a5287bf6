"""RabbitMQ as a private node of this machine, from the distribution's package."""

import os
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from devstack.local import LocalService
from devstack.ports import LOOPBACK, free_port
from devstack.processes import run_guarded
from devstack.rabbitmq import make_home
from devstack.service import DidNotStart, NotRunning

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_START = 11
"""Bytes of a frame up to the method: type, channel, size, then class and method."""
CONNECTION_START = (10, 10)
CTL_LIMIT = 60.0
CTL_PORTS = (32_000, 32_700)
"""Where rabbitmqctl listens while it runs: beside the ports we hand out, below those of outgoing connections."""

# Erlang terms, not the newer key = value format: translating that one takes a second of every start. A write-ahead
# log of 64 MiB instead of 512 keeps memory small, since what is in it is in memory too.
CONFIGURATION = """[
 {{rabbit, [{{tcp_listeners, [{{"{host}", {port}}}]}}]}},
 {{ra, [{{wal_max_size_bytes, 67108864}}]}}
].
"""

# Lists the quorum queues that have no leader within 10 s of a restart. Most elect one in half a second, while clients
# wait; but one that was declared less than a second before a kill waits for its first election for ever, unless
# somebody triggers it (seen with RabbitMQ 3.10). Leaders are looked up in a table, since a question to such a queue
# itself is never answered.
LEADERLESS = """
Leader = fun Await({Name, _} = Queue, Tries) ->
    case ra_leaderboard:lookup_leader(Name) of
        undefined when Tries > 0 -> catch ra:trigger_election(Queue), timer:sleep(50), Await(Queue, Tries - 1);
        Found -> Found
    end
end,
Queues = [amqqueue:get_pid(Q) || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue],
[Name || {Name, _} = Queue <- Queues, Leader(Queue, 200) =:= undefined].
"""

# RabbitMQ 3.10 writes down up to a second late which quorum queues it has. One that is declared and killed in between
# comes back empty, whatever it confirmed: a fault worth knowing, but not the one that tests of a kill are about.
REMEMBER_QUEUES = "lists:foreach(fun dets:sync/1, dets:all())."


def speaks_amqp(host: str, port: int) -> bool:
    """Whether a broker answers the protocol header with connection.start, which it does only when it is up."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(PROTOCOL_HEADER)
            answer = connection.recv(FRAME_START, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == FRAME_START and struct.unpack(">HH", answer[7:]) == CONNECTION_START


class LocalBroker(LocalService):
    """A node with its own name, ports, cookie, data, log, and its own epmd."""

    name = "broker"
    program = "beam.smp"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._home = make_home(directory)
        self.port = free_port()
        self._environment = self._make_environment()
        self._write_configuration()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def command(self) -> Sequence[str]:
        return [str(self._home / "sbin" / "rabbitmq-server")]

    def ready(self) -> bool:
        return speaks_amqp(LOOPBACK, self.port)

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def start(self) -> None:
        """Bring it up, with every queue in working order. Raises DidNotStart."""
        if self.running:
            return
        restarted = (self.directory / "mnesia").exists()
        super().start()
        if restarted and (leaderless := self.ctl("eval", LEADERLESS).strip()) != "[]":
            raise DidNotStart(f"the broker is up, but queues have no leader: {leaderless}")

    def kill(self) -> None:
        """End it by SIGKILL, once it has written down which queues exist: half a second, while it goes on working."""
        if self.server.status() != psutil.STATUS_STOPPED:
            self.ctl("eval", REMEMBER_QUEUES)
        super().kill()

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` with these arguments; its output. Raises subprocess.CalledProcessError, NotRunning."""
        if not self.running:
            raise NotRunning("the broker is not running, so rabbitmqctl has nobody to talk to")
        if arguments[0] == "eval":
            return self._evaluate(*arguments[1:])
        command = [str(self._home / "sbin" / "rabbitmqctl"), "--quiet", *arguments]
        return run_guarded(command, environment=self._environment, timeout=CTL_LIMIT)

    def _evaluate(self, expressions: str) -> str:
        """Ask the node itself, by a small program of Erlang's: 5 ms instead of the half second of `rabbitmqctl`."""
        ended = subprocess.run(
            ["erl_call", "-e", "-sname", self._environment["RABBITMQ_NODENAME"]],
            env=self._environment,
            input=f"{expressions.strip()}\n",
            capture_output=True,
            text=True,
            timeout=CTL_LIMIT,
            check=True,
        )
        answer = ended.stdout
        if not answer.startswith("{ok, "):
            raise subprocess.CalledProcessError(1, list(ended.args), answer, ended.stderr)
        return answer.removeprefix("{ok, ").removesuffix("}") + "\n"

    def _write_configuration(self) -> None:
        configuration = CONFIGURATION.format(host=LOOPBACK, port=self.port)
        (self.directory / "rabbitmq.config").write_text(configuration)
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "env.conf").touch()

    def _make_environment(self) -> dict[str, str]:
        """All of it, nothing inherited: the files under /etc/rabbitmq and a user's settings are for other nodes."""
        here = str(self.directory)
        on_loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",  # rabbitmqctl warns about any other
            "HOME": here,  # where the cookie lies
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_SCRIPTS_DIR": f"{self._home}/sbin",  # its parent is where all else is looked for
            "RABBITMQ_PLUGINS_DIR": f"{self._home}/plugins",
            "RABBITMQ_NODENAME": f"devstack-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{here}/mnesia",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_LOGS": "-",  # to standard output, which goes to our log with all that erl says before
            "RABBITMQ_PID_FILE": f"{here}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq.config",
            "RABBITMQ_CONFIG_FILES": f"{here}/conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{here}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/env.conf",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+stbt u {on_loopback}",  # unbound: two nodes may share a core
            "RABBITMQ_CTL_ERL_ARGS": on_loopback,
            "RABBITMQ_CTL_DIST_PORT_MIN": str(CTL_PORTS[0]),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(CTL_PORTS[1]),
        }
