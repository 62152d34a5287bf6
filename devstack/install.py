"""Install the system packages that a broker, a database and a browser of our own need."""

import ctypes
import os
import shutil
import subprocess
import sys

from devstack import browser
from devstack.database import find_mongod
from devstack.engine import engine_answers
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE
from devstack.rabbitmq import PACKAGE, find_home

POLICY = "/usr/sbin/policy-rc.d"
CURL_PACKAGE = "libcurl4"
CURL_LIBRARY = "libcurl.so.4"
OTHERWISE = f", start Docker, or set {AMQP_VARIABLE} and {MONGODB_VARIABLE}"

# A package with a service starts it when installed, and this one would take port 5672. policy-rc.d is Debian's way to
# say no; one that is there already is the administrator's.
SCRIPT = """
set -e
export DEBIAN_FRONTEND=noninteractive
policy=$0
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get -q -o DPkg::Lock::Timeout=120 update
apt-get -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "$@"
"""


class CannotInstall(Exception):
    """Packages are missing, and this user or this machine has no way to get them."""


def missing_packages() -> list[str]:
    """What has to be installed here; nothing where the environment or Docker provides."""
    if engine_answers():
        return []
    missing = []
    if not os.environ.get(AMQP_VARIABLE) and find_home() is None:
        missing.append(PACKAGE)
    if not os.environ.get(MONGODB_VARIABLE) and find_mongod() is not None and not _loads(CURL_LIBRARY):
        missing.append(CURL_PACKAGE)
    return missing


def install(packages: list[str], *, otherwise: str = OTHERWISE) -> None:
    """Install them by apt. Raises CannotInstall, which says what to do `otherwise`."""
    by_hand = f"install {' and '.join(packages)} by hand{otherwise}"
    command = [*_as_root(by_hand), "/bin/sh", "-c", SCRIPT, POLICY, *packages]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotInstall(f"apt-get could not install {' '.join(packages)}:\n{done.stdout[-2_000:]}")


def _as_root(by_hand: str) -> list[str]:
    if shutil.which("apt-get") is None:
        raise CannotInstall(f"this machine has no apt-get: {by_hand}")
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo") is None
        or subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode
    ):
        raise CannotInstall(f"only root may install packages, and sudo is missing or asks for a password: {by_hand}")
    return ["sudo", "-n"]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _bring(packages: list[str], *, otherwise: str = OTHERWISE) -> bool:
    print(f"installing {' '.join(packages)}; it takes a minute, once", flush=True)
    try:
        install(packages, otherwise=otherwise)
    except CannotInstall as error:
        print(f"devstack: {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Exit status: 0 when all is there, else 1. With `--browser` one is installed too, if it can be."""
    packages = missing_packages()
    if packages and not _bring(packages):
        return 1
    if "--browser" in sys.argv[1:] and browser.find_browser() is None:
        _bring([browser.PACKAGE], otherwise="")  # only some tests need it, and they say so when it is missing
    return 0


if __name__ == "__main__":
    sys.exit(main())
