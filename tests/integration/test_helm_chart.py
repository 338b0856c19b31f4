"""The Helm chart, rendered by Helm and held against the schemas of Kubernetes, KEDA and Strimzi. No cluster runs."""

import asyncio
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.exposure import StartRefused, check_exposure
from runtime.kafka.topic_admin import _new_topic
from runtime.settings import Settings
from schemas.topics import all_topics
from services.runs.history import ask
from stores.api_keys import digest_of, read_keys
from tests.kubernetes.tools import problems, render
from tests.processes import PROJECT, environment_of

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest that the chart takes, one between, and the newest whose schemas are to be had."""

LEAST: dict[str, Any] = {"existingSecret": "headrace", "settings": {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}}
INGRESS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
EVERYTHING: dict[str, Any] = {
    "existingSecret": "headrace",
    "tlsSecret": "certificates",
    "settings": {
        "KAFKA_BOOTSTRAP_SERVERS": "k1:9092,k2:9092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TRUSTED_PROXIES": "10.1.0.0/16",
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
        (LEAST | {"ingress": {"enabled": True, "host": "api.example.org"}}, "settings.TRUSTED_PROXIES"),
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


def environment(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (container,) = pod["spec"]["containers"]
    named = {one["name"]: one for one in container["env"]}
    assert len(named) == len(container["env"]), "a name that is given twice"
    return named


def of_the_secret(pod: dict[str, Any]) -> dict[str, str]:
    """What a pod is given of the Secret: the Secret's keys by the names of variables."""
    assert "envFrom" not in pod["spec"]["containers"][0], "all of a Secret"
    references = {
        name: one["valueFrom"]["secretKeyRef"] for name, one in environment(pod).items() if "valueFrom" in one
    }
    assert {one["name"] for one in references.values()} <= {"headrace"}
    return {name: one["key"] for name, one in references.items()}


def test_secrets_come_by_reference_only(tmp_path: Path) -> None:
    resources = rendered(EVERYTHING, tmp_path)
    assert not of_kind(resources, "Secret")
    for pod in pods(resources).values():
        for name in environment(pod).keys() - of_the_secret(pod).keys():
            field = Settings.model_fields.get(name.lower())
            assert field is None or "SecretStr" not in str(field.annotation), name


LOGIN = {"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD"}
SEARCH = {"ELASTICSEARCH_URL", "ELASTICSEARCH_API_KEY"}


def test_a_role_is_given_of_the_secret_what_its_own_work_takes(tmp_path: Path) -> None:
    more = {"secretSettings": {"outside": ["SHOP_SECRET"], "everything": ["OTEL_EXPORTER_OTLP_HEADERS"]}}
    given = {role: set(of_the_secret(pod)) for role, pod in pods(rendered(EVERYTHING | more, tmp_path)).items()}
    assert all("OTEL_EXPORTER_OTLP_HEADERS" in names for names in given.values())
    assert {role: names - {"OTEL_EXPORTER_OTLP_HEADERS"} for role, names in given.items()} == {
        "normalizer": LOGIN,
        "sink-postgres": LOGIN | {"DATABASE_URL", "FORGET_SECRET"},
        "sink-landing": LOGIN | {"DATABASE_URL", "FORGET_SECRET"},
        "sink-elasticsearch": LOGIN | SEARCH,
        "sink-redis": LOGIN | {"REDIS_URL"},
        "relay": LOGIN | {"DATABASE_URL"},
        "scheduler": LOGIN | {"DATABASE_URL", "SHOP_SECRET"},
        "monitor": LOGIN | {"DATABASE_URL", "SHOP_SECRET"},
        "api": LOGIN | SEARCH | {"DATABASE_URL", "REDIS_URL", "FORGET_SECRET", "SHOP_SECRET"},
        "dashboard": {"HEADRACE_API_KEY"},
        "setup": LOGIN | SEARCH | {"DATABASE_URL"},
        "setup-keys": {"DATABASE_URL", "GIVEN_0"},
    }


def test_a_role_may_have_a_secret_of_its_own(tmp_path: Path) -> None:
    made = pods(rendered(LEAST | {"roles": {"normalizer": {"secret": "kafka-normalizer"}}}, tmp_path))
    secrets = {
        role: {one["valueFrom"]["secretKeyRef"]["name"] for one in environment(pod).values() if "valueFrom" in one}
        for role, pod in made.items()
    }
    assert secrets.pop("normalizer") == {"kafka-normalizer"}
    assert all(names == {"headrace"} for names in secrets.values())


def test_a_setting_that_is_no_secret_is_not_looked_for_in_the_secret(tmp_path: Path) -> None:
    values = copy.deepcopy(LEAST)
    values["settings"] |= {"REDIS_URL": "none"}
    api = pods(rendered(values, tmp_path))["api"]
    assert environment(api)["REDIS_URL"] == {"name": "REDIS_URL", "value": "none"}


def test_the_environment_is_one_of_settings_that_exist_and_fit(tmp_path: Path) -> None:
    login = {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}
    values = EVERYTHING | {"settings": EVERYTHING["settings"] | login}
    secret = {
        "KAFKA_SASL_USERNAME": "a",
        "KAFKA_SASL_PASSWORD": "b",
        "DATABASE_URL": "postgresql://a:b@postgres/headrace?sslmode=require",
        "REDIS_URL": "rediss://redis",
        "HEADRACE_API_KEY": "hr_0123456789ab_" + "S" * 43,
    }
    for role, pod in pods(rendered(values, tmp_path)).items():
        plain = {name: one["value"] for name, one in environment(pod).items() if "value" in one}
        held = {name: secret[key] for name, key in of_the_secret(pod).items() if key in secret}
        given = {name.lower(): value for name, value in (plain | held).items()}
        ours = {name: value for name, value in given.items() if name in Settings.model_fields}
        assert given.keys() - ours.keys() <= {"given_0"}, f"{role}: settings that Settings has not"
        known = Settings.model_validate(ours)
        assert (known.topic_partitions, known.topic_replication, known.namespace) == (12, 3, "shop")
        assert known.allowed_hosts == "api.example.org,headrace-api"


def test_the_set_up_makes_the_keys_of_the_secret_and_then_the_api_starts(
    migrated_settings: Settings, tmp_path: Path
) -> None:
    keys = [
        {"name": "dashboard", "scopes": ["read", "operate"], "secretKey": "HEADRACE_API_KEY"},
        {"name": "shop", "scopes": ["write"], "secretKey": "SHOP_KEY"},
    ]
    resources = rendered(LEAST | {"keys": keys}, tmp_path)
    pod = pods(resources)["setup-keys"]
    (container,) = pod["spec"]["containers"]
    made = {key: made_as_documented() for key in ("HEADRACE_API_KEY", "SHOP_KEY")}
    given = {name: made[key] for name, key in of_the_secret(pod).items() if key in made}
    headrace = tmp_path / "headrace"
    headrace.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')
    headrace.chmod(0o755)
    variables = environment_of(migrated_settings) | {"PATH": f"{tmp_path}:{os.defpath}", "PYTHONPATH": str(PROJECT)}
    beyond = migrated_settings.model_copy(update={"api_access": "keys", "api_bind": "0.0.0.0"})  # noqa: S104
    with pytest.raises(StartRefused, match="no API key"):
        check_exposure(beyond)
    for _ in range(2):  # an upgrade does it again
        done = subprocess.run(
            [*container["command"], *container["args"]], env=variables | given, check=True, capture_output=True
        )
        assert not any(key.encode() in done.stdout + done.stderr for key in made.values())
    found = asyncio.run(ask(migrated_settings, read_keys))
    assert {key.name: sorted(key.scopes) for key in found} == {"dashboard": ["operate", "read"], "shop": ["write"]}
    assert {key.digest for key in found} == {digest_of(key) for key in made.values()}
    check_exposure(beyond)
    del given["GIVEN_1"]
    assert subprocess.run(
        [*container["command"], *container["args"]], env=variables | given, check=False, capture_output=True
    ).returncode, "a key that the Secret has not is no key"


def made_as_documented() -> str:
    """A key, by the command that DEPLOYMENT.md has for it."""
    (command,) = re.findall(r"^KEY=.*", (PROJECT / "DEPLOYMENT.md").read_text(), re.MULTILINE)
    return subprocess.run(
        ["/bin/sh", "-c", f'{command}; printf %s "$KEY"'], check=True, capture_output=True, text=True
    ).stdout


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
    jobs = of_kind(resources, "Job")
    weights = {name: job["metadata"]["annotations"]["helm.sh/hook-weight"] for name, job in jobs.items()}
    assert weights == {"headrace-setup": "0", "headrace-setup-keys": "1"}, "tables, and then keys in them"
    assert {job["metadata"]["annotations"]["helm.sh/hook"] for job in jobs.values()} == {"pre-install,pre-upgrade"}
    assert of_kind(rendered(LEAST | {"keys": []}, tmp_path), "Job").keys() == {"headrace-setup"}
    made = pods(resources)
    assert made["setup"]["spec"]["containers"][0]["args"][0] == "setup"
    assert made["normalizer"]["spec"]["terminationGracePeriodSeconds"] >= 30
    for role in ("sink-postgres", "sink-landing"):
        assert made[role]["spec"]["terminationGracePeriodSeconds"] >= 75, "a statement may take 60 s"
    for name, pod in made.items():
        (container,) = pod["spec"]["containers"]
        assert ("livenessProbe" in container) == (name not in {"setup", "setup-keys"})
        if name not in {"setup", "setup-keys", "dashboard"}:
            liveness = container["livenessProbe"]["httpGet"]["path"]
            assert liveness in {"/metrics", "/livez"}, "a store that is away is no reason to restart"
