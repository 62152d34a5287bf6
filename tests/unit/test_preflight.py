from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from preflight.broker import check_heartbeat, check_server
from preflight.check import Check, State, exit_code_of
from preflight.clock import check_difference, check_synchronized, kernel_clock_state
from preflight.report import to_document, to_lines, to_verdict
from preflight.variables import find_strangers, read_settings
from worker.check.judging import check_indexes, check_members, check_rights, check_storage, check_version
from worker.schema import INDEX
from worker.settings import Settings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
OK, WARNING = Check.ok("one", "fine"), Check.warning("two", "so so", "look at it")
AWAY, WRONG = Check.away("three", "silent", "start it"), Check.wrong("four", "broken", "replace it")


@pytest.mark.parametrize(
    ("checks", "code"),
    [([OK], 0), ([OK, WARNING], 0), ([AWAY, OK], 75), ([WRONG], 78), ([WRONG, AWAY], 78), ([AWAY, WRONG, OK], 78)],
)
def test_what_must_be_mended_decides_before_what_is_away_and_a_warning_does_not(checks: list[Check], code: int) -> None:
    assert exit_code_of(checks) == code


def test_each_check_is_a_line_and_what_to_do_is_another() -> None:
    assert list(to_lines([OK, WARNING], [])) == [
        "ok       one  fine",
        "warning  two  so so",
        "              to mend it: look at it",
    ]
    assert to_verdict([OK, WARNING, OK]) == "3 checks: 2 ok, 1 warning"


def test_no_password_is_shown_and_nothing_that_a_terminal_would_act_on() -> None:
    check = Check.wrong("it", "amqp://me:hunter2@h/ hunter2\x1b[31m\n", "not hunter2")
    text = "\n".join(to_lines([check], ["hunter2"]))
    assert "hunter2" not in text
    assert r"\x1b[31m\n" in text
    assert "hunter2" not in str(to_document([check], ["hunter2"]))


def test_a_document_says_what_the_lines_say() -> None:
    assert to_document([OK, WRONG], []) == {
        "exitCode": 78,
        "checks": [
            {"name": "one", "state": "ok", "found": "fine", "mend": None},
            {"name": "four", "state": "wrong", "found": "broken", "mend": "replace it"},
        ],
    }


def test_each_wrong_variable_is_named_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_ADMIN_PORT", "http")
    monkeypatch.setenv("WORKER_BATCH_EVENTS", "-1")
    settings, checks = read_settings(Settings)
    assert settings is None
    assert [check.found.split()[0] for check in checks] == ["WORKER_ADMIN_PORT", "WORKER_BATCH_EVENTS"]
    assert checks[0].mend == "change WORKER_ADMIN_PORT, or unset it for its default, 9102"


def test_a_variable_that_is_no_setting_is_told_with_the_one_that_may_be_meant() -> None:
    environment = {"WORKER_ADMIN_PROT": "1", "WORKER_ADMIN_PORT": "1", "WORKER_CHECK_JSON": "1", "OTHER": "1"}
    [check] = find_strangers(Settings, {"WORKER_CHECK_JSON"}, environment)
    assert check.state is State.WARNING
    assert "WORKER_ADMIN_PROT" in check.found
    assert "WORKER_ADMIN_PORT" in check.mend


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "ok"), (1.9, "ok"), (2.1, "warning"), (-299, "warning"), (301, "wrong"), (-301, "wrong")]
)
def test_clocks_may_differ_a_little(seconds: float, state: str) -> None:
    check = check_difference(NOW + timedelta(seconds=seconds), NOW, of="MongoDB's")
    assert check.state == state
    assert f"{abs(seconds):.3f} s {'ahead' if seconds > 0 else 'behind'}" in check.found
    assert bool(check.mend) == (state != "ok")


@pytest.mark.parametrize(("code", "state"), [(0, "ok"), (1, "ok"), (5, "warning"), (None, "ok")])
def test_a_clock_that_nobody_keeps_right_is_told(code: int | None, state: str) -> None:
    assert check_synchronized(lambda: code).state == state


def test_the_kernel_is_asked_without_telling_it_anything() -> None:
    assert kernel_clock_state() in {None, *range(6)}


@pytest.mark.parametrize(
    ("version", "state"),
    [("3.9.29", "wrong"), ("3.10.8", "ok"), (b"4.1.0", "ok"), ("3.13.0-rc.1", "ok"), ("unknown", "ok")],
)
def test_a_broker_that_cannot_dead_letter_safely_is_too_old(version: object, state: str) -> None:
    assert check_server({"product": "RabbitMQ", "version": version}, "h:5672").state == state


@pytest.mark.parametrize(("seconds", "state"), [(0, "warning"), (10, "ok"), (60, "ok"), (580, "warning")])
def test_heartbeats_that_come_seldom_or_never_are_told(seconds: int, state: str) -> None:
    assert check_heartbeat(seconds, "INGEST_AMQP_URL").state == state


@pytest.mark.parametrize(
    ("version", "features", "state"),
    [
        ("6.0.5", "6.0", "ok"),
        ("6.0.5", None, "ok"),
        ("7.0.1", "6.0", "warning"),
        ("4.4.29", "4.4", "wrong"),
        ("5.0.1", "4.4", "wrong"),
    ],
)
def test_a_database_is_too_old_by_its_version_or_by_that_of_its_features(
    version: str, features: str | None, state: str
) -> None:
    check = check_version(version, features)
    assert check.state == state
    assert bool(check.mend) == (state != "ok")


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["PRIMARY"], "ok"),
        (["PRIMARY", "SECONDARY", "SECONDARY"], "ok"),
        (["PRIMARY", "SECONDARY", "(not reachable/healthy)"], "warning"),
        (["PRIMARY", "ARBITER", "RECOVERING"], "away"),
    ],
)
def test_a_set_is_away_when_no_majority_can_acknowledge(states: list[str], state: str) -> None:
    members = [{"name": f"m{n}:27017", "stateStr": one} for n, one in enumerate(states)]
    check = check_members({"members": members, "writeMajorityCount": len(states) // 2 + 1})
    assert check.state == state
    assert ("m2:27017 is" in check.found) == (state != "ok")


def test_what_a_user_may_not_see_is_no_fault() -> None:
    assert {check_members(None).state, check_storage(None).state, check_storage({}).state} == {State.OK}


def test_a_storage_engine_that_keeps_nothing_is_wrong() -> None:
    assert check_storage({"storageEngine": {"name": "inMemory", "persistent": False}}).state is State.WRONG


def status_of(*privileges: dict[str, Any]) -> dict[str, Any]:
    return {"authInfo": {"authenticatedUsers": [{"user": "me"}], "authenticatedUserPrivileges": list(privileges)}}


ALL = ["createCollection", "createIndex", "find", "insert", "update", "remove"]


@pytest.mark.parametrize(
    ("privilege", "state"),
    [
        ({"resource": {"db": "usage", "collection": ""}, "actions": ALL}, "ok"),
        ({"resource": {"db": "", "collection": ""}, "actions": ALL}, "ok"),
        ({"resource": {"anyResource": True}, "actions": ["anyAction"]}, "ok"),
        ({"resource": {"db": "usage", "collection": ""}, "actions": ["find"]}, "wrong"),
        ({"resource": {"db": "usage", "collection": "events"}, "actions": ALL}, "wrong"),
        ({"resource": {"db": "another", "collection": ""}, "actions": ALL}, "wrong"),
        ({"resource": {"cluster": True}, "actions": ["anyAction"]}, "wrong"),
    ],
)
def test_rights_are_those_on_the_three_collections(privilege: dict[str, Any], state: str) -> None:
    assert check_rights(status_of(privilege), "usage").state == state


ID = {"name": "_id_", "key": {"_id": 1}}
OURS = {"name": INDEX.document["name"], "key": dict(INDEX.document["key"])}


@pytest.mark.parametrize(
    ("collection", "index", "state"),
    [
        ("events", OURS, "ok"),
        ("events", {"name": "email_1", "key": {"email": 1}}, "ok"),
        ("events", {"name": "email_1", "key": {"email": 1}, "unique": True}, "wrong"),
        ("ledger", {"name": "at_1", "key": {"at": 1}, "expireAfterSeconds": 60}, "wrong"),
        ("events", {**OURS, "key": {"email": 1}}, "wrong"),
        ("events", {**OURS, "name": "mine"}, "wrong"),
        ("events", {**OURS, "sparse": True}, "wrong"),
        ("totals", {**OURS, "sparse": True}, "ok"),
    ],
)
def test_an_index_is_wrong_when_it_refuses_removes_or_stands_in_the_way(
    collection: str, index: dict[str, Any], state: str
) -> None:
    [check] = check_indexes(collection, [ID, index])
    assert check.state == state
    assert (f'dropIndex("{index["name"]}")' in check.mend) == (state == "wrong")


def test_an_index_of_ours_that_is_missing_is_made_at_the_start() -> None:
    [check] = check_indexes("events", [ID])
    assert check.state is State.OK
    assert "is not there yet" in check.found
