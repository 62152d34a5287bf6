"""Missing system packages are installed without starting their services, or named."""

import os
import sys
from pathlib import Path

import pytest

from devstack import browser, install
from devstack.external import AMQP_VARIABLE, MONGODB_VARIABLE
from devstack.install import CannotInstall

APT = """#!/bin/sh
echo "$@" >> {log}
sh {policy}; echo "services may start: $?" >> {log}
exit {status}
"""


class Apt:
    """An apt-get that only writes down how it was called."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.policy = directory / "policy-rc.d"
        self._log = directory / "log"
        self._program = directory / "bin" / "apt-get"
        self._program.parent.mkdir()
        monkeypatch.setenv("PATH", f"{self._program.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(install, "POLICY", str(self.policy))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        self.ends_with(0)

    def ends_with(self, status: int) -> None:
        self._program.write_text(APT.format(log=self._log, policy=self.policy, status=status))
        self._program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "engine_answers", lambda: False)
    monkeypatch.delenv(AMQP_VARIABLE, raising=False)
    monkeypatch.delenv(MONGODB_VARIABLE, raising=False)


def test_packages_are_installed_after_an_update_with_services_forbidden(apt: Apt) -> None:
    install.install(["some-server", "some-library"])

    update, _, command, may_start = apt.calls
    assert update.endswith("update")
    assert command.endswith("install some-server some-library")
    assert may_start == "services may start: 101"
    assert not apt.policy.exists()


def test_the_policy_of_an_administrator_stays(apt: Apt) -> None:
    apt.policy.write_text("exit 0\n")

    install.install(["some-server"])

    assert apt.calls[-1] == "services may start: 0"
    assert apt.policy.read_text() == "exit 0\n"


def test_a_failure_shows_what_apt_said_and_leaves_no_policy(apt: Apt) -> None:
    apt.ends_with(100)

    with pytest.raises(CannotInstall, match="could not install some-server"):
        install.install(["some-server"])

    assert not apt.policy.exists()


def test_without_apt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotInstall, match=f"install some-server by hand, start Docker, or set {AMQP_VARIABLE}"):
        install.install(["some-server"])


def test_without_root_the_packages_are_named(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(apt.policy.parent / "bin"))  # there is no sudo in it
    with pytest.raises(CannotInstall, match="only root may install packages"):
        install.install(["some-server"])


def test_a_missing_broker_means_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find_home", lambda: None)
    monkeypatch.setenv(MONGODB_VARIABLE, "mongodb://elsewhere/")
    assert install.missing_packages() == ["rabbitmq-server"]


def test_nothing_is_missing_where_the_environment_provides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find_home", lambda: None)
    monkeypatch.setenv(AMQP_VARIABLE, "amqp://elsewhere/")
    monkeypatch.setenv(MONGODB_VARIABLE, "mongodb://elsewhere/")
    assert install.missing_packages() == []


def test_nothing_is_missing_where_docker_provides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find_home", lambda: None)
    monkeypatch.setattr(install, "engine_answers", lambda: True)
    assert install.missing_packages() == []


def test_a_library_that_mongod_cannot_load_means_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "CURL_LIBRARY", "libnever.so.0")
    monkeypatch.setattr(install, "find_mongod", lambda: Path("mongod"))
    monkeypatch.setenv(AMQP_VARIABLE, "amqp://elsewhere/")
    assert install.missing_packages() == ["libcurl4"]


def test_main_says_in_one_sentence_why_it_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "missing_packages", lambda: ["some-server"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.main() == 1
    assert capsys.readouterr().err.startswith("devstack: this machine has no apt-get: install some-server by hand")


@pytest.fixture
def bare(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> Apt:
    """A machine that lacks a browser, and nothing else."""
    monkeypatch.setattr(install, "missing_packages", list)
    monkeypatch.setattr(browser, "NAMES", ("no-such-browser",))
    return apt


def test_a_browser_is_installed_when_it_is_asked_for(bare: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["install", "--browser"])
    assert install.main() == 0
    assert any(call.endswith("install chromium") for call in bare.calls)


def test_without_a_browser_everything_else_can_go_on(
    bare: Apt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.ends_with(100)
    monkeypatch.setattr(sys, "argv", ["install", "--browser"])
    assert install.main() == 0
    assert "could not install chromium" in capsys.readouterr().err


def test_a_browser_that_is_there_is_not_installed(bare: Apt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "some-browser"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(browser, "NAMES", ("no-such-browser", program.name))
    monkeypatch.setattr(sys, "argv", ["install", "--browser"])
    assert browser.find_browser() == program
    assert install.main() == 0
    assert bare.calls == []


def test_a_run_needs_no_browser(bare: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["install"])
    assert install.main() == 0
    assert bare.calls == []
