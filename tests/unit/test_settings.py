import os
from typing import Any

import pytest
from pydantic import ValidationError

from ingest.settings import Settings as IngestSettings
from runtime.settings import ProcessSettings, load
from runtime.supervision import Misconfigured
from worker.settings import Settings as WorkerSettings

PASSWORD = "hunter2-geheim"  # noqa: S105 - not one


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("INGEST_", "WORKER_")):
            monkeypatch.delenv(name)


@pytest.fixture(params=[(IngestSettings, "INGEST_"), (WorkerSettings, "WORKER_")], ids=["ingest", "worker"])
def process(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_without_any_variable_the_defaults_hold(process: tuple[type[ProcessSettings], str]) -> None:
    settings = load(process[0])
    assert settings.amqp_url == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.model_fields_set == set()


def test_an_empty_variable_counts_as_not_set(
    process: tuple[type[ProcessSettings], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{process[1]}ADMIN_PORT", "")
    assert "admin_port" not in load(process[0]).model_fields_set


def test_a_variable_of_the_other_process_is_none_of_ours(
    process: tuple[type[ProcessSettings], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"INGEST_": "WORKER_", "WORKER_": "INGEST_"}[process[1]]
    monkeypatch.setenv(f"{other}LOG_LEVEL", "nonsense")
    assert load(process[0]).log_level == "INFO"


def test_settings_do_not_change(process: tuple[type[ProcessSettings], str]) -> None:
    settings = load(process[0])
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, "log_level", "DEBUG")  # noqa: B010 - mypy knows better


def test_whether_the_admin_port_was_set_explicitly_can_be_told(
    process: tuple[type[ProcessSettings], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    default = load(process[0]).model_dump()["admin_port"]
    monkeypatch.setenv(f"{process[1]}ADMIN_PORT", str(default))
    assert "admin_port" in load(process[0]).model_fields_set


COMMON = {
    "AMQP_URL": [
        PASSWORD,
        f"http://me:{PASSWORD}@broker/",
        f"amqp://me:{PASSWORD}@broker:port/",
        f"amqp://me:{PASSWORD}@broker:99999/",
        f"mongodb://me:{PASSWORD}@broker/",
    ],
    "ADMIN_PORT": ["-1", "65536", "many", "80.5"],
    "LOG_LEVEL": [PASSWORD, "info"],
    "DRAIN_TIMEOUT": ["0", "-1", "nan", "inf", "3601", "soon"],
}
OF_INGEST = {
    "PORT": ["-1", "65536", "http"],
    "REUSE_PORT": ["maybe", "2"],
    "DOCS": ["maybe", "2"],
    "DEADLINE": ["0", "nan"],
    "BODY_TIMEOUT": ["0"],
    "HEAD_TIMEOUT": ["0"],
    "KEEPALIVE_TIMEOUT": ["0"],
    "MAX_BODY_BYTES": ["0", "1e3"],
    "MAX_WAITING_BYTES": ["0"],
    "BATCH_RECORDS": ["0"],
    "BATCH_BODY_BYTES": ["0"],
    "AUTH": [PASSWORD, "open,nonsense", ","],
    "RATE_PER_PROJECT": ["-1", "nan", "inf"],
    "BURST_PER_PROJECT": ["0"],
    "RATE_PER_CREDENTIAL": ["-1", "nan", "inf"],
    "BURST_PER_CREDENTIAL": ["0"],
    "GROUP_EVENTS": ["0"],
    "GROUP_BYTES": ["0"],
    "GROUPS_IN_FLIGHT": ["0", "65"],
    "TIMESTAMP_SECONDS_AHEAD": ["-1", "nan", "inf", "1e12"],
    "TIMESTAMP_DAYS_BACK": ["-1", "nan", "inf", "1e12"],
}
OF_WORKER = {
    "MONGODB_URI": [PASSWORD, f"http://me:{PASSWORD}@database/"],
    "MONGODB_DATABASE": ["x" * 64, "a.b", "a b", "a/b", "$a"],
    "MONGODB_TIMEOUT": ["0", "nan"],
    "BATCH_EVENTS": ["0", "100001"],
    "BATCH_BYTES": ["0"],
    "BATCH_SECONDS": ["-1", "61", "nan"],
}
WRONG = [
    pytest.param(settings, f"{prefix}{name}", value, id=f"{prefix}{name}={value}".replace(PASSWORD, "***"))
    for settings, prefix, knobs in [
        (IngestSettings, "INGEST_", {**COMMON, **OF_INGEST}),
        (WorkerSettings, "WORKER_", {**COMMON, **OF_WORKER}),
    ]
    for name, wrong in knobs.items()
    for value in wrong
]


@pytest.mark.parametrize(("settings", "name", "value"), WRONG)
def test_a_wrong_variable_gives_one_sentence_that_names_it_and_not_its_value(
    settings: type[ProcessSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        load(settings)
    [sentence] = str(caught.value).splitlines()
    assert sentence.startswith(f"{name} ")
    assert PASSWORD not in sentence


def test_every_knob_that_has_a_rule_is_among_those_tested_above() -> None:
    free = {
        "INGEST_HOST",
        "INGEST_ADMIN_HOST",
        "WORKER_ADMIN_HOST",
        "INGEST_API_KEYS_FILE",
        "INGEST_SIGNING_SECRETS_FILE",
    }
    tested = {str(parameters.values[1]) for parameters in WRONG}
    for settings, prefix in ((IngestSettings, "INGEST_"), (WorkerSettings, "WORKER_")):
        knobs = {f"{prefix}{name.upper()}" for name in settings.model_fields}
        assert knobs - free == {name for name in tested if name.startswith(prefix)}


def test_each_wrong_variable_gets_a_sentence_of_its_own(
    process: tuple[type[ProcessSettings], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prefix = process
    monkeypatch.setenv(f"{prefix}AMQP_URL", f"ftp://me:{PASSWORD}@broker")
    monkeypatch.setenv(f"{prefix}LOG_LEVEL", "LOUD")
    monkeypatch.setenv(f"{prefix}ADMIN_PORT", "many")
    with pytest.raises(Misconfigured) as caught:
        load(settings)
    sentences = str(caught.value).splitlines()
    assert sorted(sentence.split()[0] for sentence in sentences) == sorted(
        f"{prefix}{name}" for name in ("AMQP_URL", "LOG_LEVEL", "ADMIN_PORT")
    )
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://broker",
        "amqps://me:secret@broker:5671/vhost",
        "amqp://me:p%40ss@broker/%2f?heartbeat=20",
        "amqp://[::1]:5672/",
    ],
)
def test_a_broker_url_is_kept_as_it_was_written(
    process: tuple[type[ProcessSettings], str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{process[1]}AMQP_URL", url)
    assert load(process[0]).amqp_url == url
