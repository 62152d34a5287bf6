"""The manifests, held to the settings, ports and limits of the processes that they run."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import ingest.settings
import worker.settings
from contract import topology
from runtime.notify import MARGIN
from runtime.settings import ProcessSettings, load

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
SETTINGS: dict[str, type[ProcessSettings]] = {
    "usage-ingest": ingest.settings.Settings,
    "usage-worker": worker.settings.Settings,
}
NAMES = sorted(SETTINGS)
SECRETS = {"usage-ingest": {"INGEST_AMQP_URL"}, "usage-worker": {"WORKER_AMQP_URL", "WORKER_MONGODB_URI"}}

Manifest = dict[str, Any]


def manifests(folder: Path = KUBERNETES) -> list[Manifest]:
    return [manifest for path in sorted(folder.glob("*.yaml")) for manifest in yaml.safe_load_all(path.read_text())]


def manifest(kind: str, name: str, folder: Path = KUBERNETES) -> Manifest:
    [found] = [one for one in manifests(folder) if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pod(name: str) -> Manifest:
    found: Manifest = manifest("Deployment", name)["spec"]["template"]["spec"]
    return found


def container(name: str) -> Manifest:
    [found] = pod(name)["containers"]
    return dict(found)


def variables(name: str) -> dict[str, str]:
    """What the process finds in its environment; for what a secret holds, its key."""
    given: dict[str, str] = {}
    for source in container(name)["envFrom"]:
        given |= manifest("ConfigMap", source["configMapRef"]["name"])["data"]
    return given | {entry["name"]: entry["valueFrom"]["secretKeyRef"]["key"] for entry in container(name)["env"]}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(name: str, monkeypatch: pytest.MonkeyPatch) -> ProcessSettings:
    """As the process reads them in its pod, with a broker and a database from the secret."""
    for variable in list(os.environ):
        if variable.startswith(("INGEST_", "WORKER_")):
            monkeypatch.delenv(variable)
    secret = {"AMQP_URL": "amqp://broker/", "MONGODB_URI": "mongodb://database/?replicaSet=rs0"}
    for variable, value in variables(name).items():
        monkeypatch.setenv(variable, secret.get(variable.partition("_")[2], value))
    return load(SETTINGS[name])


def test_every_variable_is_a_setting(name: str) -> None:
    known = {
        f"{model.model_config.get('env_prefix', '')}{field.upper()}"
        for model in SETTINGS.values()
        for field in model.model_fields
    }
    assert set(variables(name)) <= known


def test_what_may_hold_a_password_comes_from_the_secret_of_the_same_name(name: str) -> None:
    secret = {entry["name"]: entry["valueFrom"]["secretKeyRef"]["key"] for entry in container(name)["env"]}
    assert secret == {url: url for url in SECRETS[name]}
    assert "://" not in yaml.safe_dump(manifests())


def test_the_ports_are_those_that_the_process_listens_on(name: str, settings: ProcessSettings) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
    listening = settings.model_dump()
    assert ports == {
        "admin": listening["admin_port"],
        **({"http": listening["port"]} if "port" in listening else {}),
    }
    # and they can be reached from outside of the pod
    assert {listening["admin_host"], listening.get("host", "0.0.0.0")} == {"0.0.0.0"}


def test_alive_asks_for_nobody_else_and_ready_asks_for_all(name: str) -> None:
    here = container(name)
    paths = {probe: here[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    ports = {here[f"{probe}Probe"]["httpGet"]["port"] for probe in paths}
    assert ports == {"http" if name == "usage-ingest" else "admin"}


def test_a_pod_gets_the_time_that_its_drain_may_take(name: str, settings: ProcessSettings) -> None:
    hook = container(name).get("lifecycle", {}).get("preStop")
    pause = 0.0 if hook is None else float(hook["exec"]["command"][1])
    assert pod(name)["terminationGracePeriodSeconds"] >= pause + settings.drain_timeout + MARGIN


def test_ingest_listens_on_for_a_while_when_its_pod_is_taken_from_the_service() -> None:
    assert container("usage-ingest")["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "5"]}}


def test_the_command_is_one_that_is_installed(name: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    [command] = container(name)["command"]
    assert command in scripts


def test_everything_that_selects_pods_selects_those_of_the_deployment(name: str) -> None:
    spec = manifest("Deployment", name)["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    [spread] = pod(name)["topologySpreadConstraints"]
    selectors = [
        spec["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        manifest("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"],
    ]
    if name == "usage-ingest":
        selectors.append(manifest("Service", name)["spec"]["selector"])
    for selector in selectors:
        assert selector.items() <= labels
        assert selector["app.kubernetes.io/name"] == name


def test_the_service_leads_to_the_public_port_only() -> None:
    [port] = manifest("Service", "usage-ingest")["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_a_pod_can_do_nothing_that_its_process_need_not_do(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_no_service_beside_it_can_be_taken_for_a_setting(name: str) -> None:
    assert pod(name)["enableServiceLinks"] is False


def test_the_kustomization_leaves_nothing_out() -> None:
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert set(kustomization["resources"]) == files
    assert {image["name"] for image in kustomization["images"]} == {container(each)["image"] for each in NAMES}


def test_what_is_optional_fits_the_rest() -> None:
    optional = KUBERNETES / "optional"
    [endpoint] = manifest("PodMonitor", "usage-ingest", optional)["spec"]["podMetricsEndpoints"]
    assert all(endpoint["port"] in {port["name"] for port in container(each)["ports"]} for each in NAMES)
    scaled = manifest("ScaledObject", "usage-worker", optional)["spec"]
    assert manifest("Deployment", scaled["scaleTargetRef"]["name"])
    [trigger] = scaled["triggers"]
    # over AMQP what a worker has taken ahead would not count
    assert trigger["metadata"] | {"protocol": "http", "queueName": topology.QUEUE} == trigger["metadata"]
