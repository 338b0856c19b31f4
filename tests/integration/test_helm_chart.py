"""The Helm chart, rendered by Helm and held against the schemas of Kubernetes, KEDA and Strimzi. No cluster runs."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.kafka.topic_admin import _new_topic
from runtime.settings import Settings
from schemas.topics import all_topics
from tests.kubernetes.tools import problems, render

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest that the chart takes, one between, and the newest whose schemas are to be had."""

LEAST = {"existingSecret": "headrace", "settings": {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}}
INGRESS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
EVERYTHING = {
    "existingSecret": "headrace",
    "tlsSecret": "certificates",
    "settings": {
        "KAFKA_BOOTSTRAP_SERVERS": "k1:9092,k2:9092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RAW_RETENTION_HOURS": 12,
    },
    "sources": '[shop]\nkind = "csv"\n',
    "alarms": '[rules.a]\nwhen = "drift"\n',
    "topics": {"namespace": "shop", "partitions": 12, "strimzi": {"enabled": True, "cluster": "kafka"}},
    "autoscaling": {"enabled": True, "sasl": "scram_sha512", "tls": "enable"},
    "dashboard": {"hosts": "dashboard.example.org"},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "api.example.org",
        "tlsSecret": "api-tls",
        "annotations": {"a": "b"},
    },
    "networkPolicies": {
        "clients": [INGRESS],
        "scrapers": [INGRESS],
        "servers": {"kafka": {"to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}},
    },
    "roles": {"dashboard": {"replicas": 1}},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "nodeSelector": {"pool": "workers"},
    "tolerations": [{"key": "workers", "operator": "Exists"}],
    "image": {"pullSecrets": [{"name": "registry"}]},
    "serviceAccountName": "headrace",
}

Resources = list[dict[str, Any]]


def rendered(values: dict[str, Any], folder: Path, version: str = "1.34") -> Resources:
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    return render(version, "--values", str(file))


def of_kind(resources: Resources, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def pods(resources: Resources) -> dict[str, dict[str, Any]]:
    """The pods' templates by role; the set-up among them."""
    made = [one["spec"]["template"] for one in resources if one["kind"] in {"Deployment", "Job"}]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in made}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_every_resource_is_one_that_kubernetes_takes(values: dict[str, Any], version: str, tmp_path: Path) -> None:
    resources = rendered(values, tmp_path, version)
    found = [problem for one in resources for problem in problems(one, version)]
    assert found == []
    names = [(one["kind"], one["metadata"]["name"]) for one in resources]
    assert len(names) == len(set(names))


def test_a_resource_that_no_cluster_takes_is_found_out(tmp_path: Path) -> None:
    resources = rendered(EVERYTHING, tmp_path)
    for kind, path, value in (
        ("Deployment", ("spec", "replica"), 2),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "8101"),
        ("NetworkPolicy", ("spec", "egres"), []),
        ("ScaledObject", ("spec", "maxReplicaCount"), "many"),
        ("TriggerAuthentication", ("spec", "secret"), {}),
        ("KafkaTopic", ("spec", "replicas"), 0),
        ("KafkaTopic", ("spec", "partition"), 1),
    ):
        broken = copy.deepcopy(next(iter(of_kind(resources, kind).values())))
        place: Any = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert problems(broken, "1.34"), (kind, path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"existingSecret": "s"}, "settings.KAFKA_BOOTSTRAP_SERVERS"),
        ({"settings": LEAST["settings"]}, "existingSecret"),
        (LEAST | {"roles": {"dashboard": {"replicas": 1}}}, "dashboard.hosts"),
        (LEAST | {"ingress": {"enabled": True}}, "ingress.host"),
        (LEAST | {"topics": {"strimzi": {"enabled": True}}}, "topics.strimzi.cluster"),
    ],
)
def test_what_is_missing_is_named(values: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        rendered(values, tmp_path)
    assert told in error.value.stderr


def test_every_pod_is_without_root_capabilities_writable_files_and_tokens(tmp_path: Path) -> None:
    for role, pod in pods(rendered(EVERYTHING, tmp_path)).items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"], role
        volumes = {one["name"]: one for one in spec["volumes"]}
        writable = {one["mountPath"] for one in container["volumeMounts"] if "emptyDir" in volumes[one["name"]]}
        assert writable == {"/tmp", "/var/lib/headrace"}  # noqa: S108


def test_secrets_come_by_reference_only(tmp_path: Path) -> None:
    resources = rendered(EVERYTHING, tmp_path)
    assert not of_kind(resources, "Secret")
    for pod in pods(resources).values():
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "headrace"}}]
        for variable in container["env"]:
            field = Settings.model_fields.get(variable["name"].lower())
            assert field is None or "SecretStr" not in str(field.annotation), variable
            assert variable["name"] not in {"DATABASE_URL", "REDIS_URL"}


def test_the_environment_is_one_of_settings_that_exist_and_fit(tmp_path: Path) -> None:
    (container,) = pods(rendered(EVERYTHING, tmp_path))["normalizer"]["spec"]["containers"]
    given = {one["name"].lower(): one["value"] for one in container["env"]}
    ours = {name: value for name, value in given.items() if name in Settings.model_fields}
    assert given.keys() - ours.keys() <= {"api_access"}, "settings of .env.example that Settings has not"
    access = {"kafka_sasl_mechanism": "SCRAM-SHA-512", "kafka_sasl_username": "a", "kafka_sasl_password": "b"}
    known = Settings.model_validate(ours | access)
    assert (known.topic_partitions, known.topic_replication, known.namespace) == (12, 3, "shop")
    assert known.allowed_hosts == "api.example.org,headrace-api"


def test_topics_are_those_of_the_registry_as_the_set_up_makes_them(tmp_path: Path) -> None:
    made = of_kind(rendered(EVERYTHING, tmp_path), "KafkaTopic")
    settings = Settings(headrace_namespace="shop", topic_partitions=12, topic_replication=3, raw_retention_hours=12)
    wanted = {topic.topic: topic for topic in (_new_topic(one, settings) for one in all_topics())}
    assert made.keys() == wanted.keys()
    for name, resource in made.items():
        spec = resource["spec"]
        config = wanted[name].config
        assert config is not None
        assert config.items() <= spec["config"].items()
        assert int(spec["config"]["segment.ms"]) <= 24 * 3_600_000
        assert (spec["partitions"], spec["replicas"]) == (12, 3)


def test_workers_scale_by_the_lag_of_their_group_and_never_beyond_the_partitions(tmp_path: Path) -> None:
    resources = rendered(EVERYTHING, tmp_path)
    scaled = of_kind(resources, "ScaledObject")
    deployments = of_kind(resources, "Deployment")
    for name, resource in scaled.items():
        (trigger,) = resource["spec"]["triggers"]
        assert trigger["metadata"]["consumerGroup"] == f"shop.{name.removeprefix('headrace-')}"
        assert resource["spec"]["maxReplicaCount"] == 12
        assert "replicas" not in deployments[name]["spec"], "two would pull at it"
    assert not of_kind(rendered(LEAST, tmp_path), "ScaledObject")


def test_a_role_reaches_its_servers_and_nothing_else(tmp_path: Path) -> None:
    resources = rendered(EVERYTHING, tmp_path)
    policies = of_kind(resources, "NetworkPolicy")
    default = policies["headrace"]["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in default["egress"] for port in rule["ports"]] == [53, 53]
    for role, pod in pods(resources).items():
        labels = pod["metadata"]["labels"]
        assert default["podSelector"]["matchLabels"].items() <= labels.items(), role
        reached = {name.rpartition("/reaches-")[2] for name in labels if "/reaches-" in name}
        for server in reached:
            selector = policies[f"headrace-to-{server}"]["spec"]["podSelector"]["matchLabels"]
            assert selector.items() <= labels.items(), (role, server)
    (rule,) = policies["headrace-to-outside"]["spec"]["egress"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"], "a cloud's metadata hold credentials"


def test_nothing_starts_before_the_set_up_and_every_role_may_finish_its_work(tmp_path: Path) -> None:
    resources = rendered(LEAST, tmp_path)
    (job,) = of_kind(resources, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    made = pods(resources)
    assert made["setup"]["spec"]["containers"][0]["args"][0] == "setup"
    assert made["normalizer"]["spec"]["terminationGracePeriodSeconds"] >= 30
    for role in ("sink-postgres", "sink-landing"):
        assert made[role]["spec"]["terminationGracePeriodSeconds"] >= 75, "a statement may take 60 s"
    for name, pod in made.items():
        (container,) = pod["spec"]["containers"]
        assert ("livenessProbe" in container) == (name != "setup")
        if name not in {"setup", "dashboard"}:
            liveness = container["livenessProbe"]["httpGet"]["path"]
            assert liveness in {"/metrics", "/livez"}, "a store that is away is no reason to restart"
