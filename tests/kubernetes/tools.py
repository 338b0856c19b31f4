"""Helm and the JSON schemas of Kubernetes, out of wheels that are downloaded once into the user's cache.

AWS' layer for its functions has a Helm for Linux on x86_64; elsewhere it is the one on PATH.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "deploy" / "kubernetes"
WHEELS = Path(__file__).parent / "tools.txt"
CRDS = Path(__file__).parent / "crds"

SCHEMAS = "kubernetes_validate/kubernetes-json-schema/v{}.0-local-strict/"


def render(version: str, *options: str, release: str = "headrace") -> list[dict[str, Any]]:
    """The resources of the chart, as for a cluster of this version. Raises CalledProcessError with Helm's words."""
    command = [helm(), "template", release, str(CHART), "--kube-version", version, *options]
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir()}  # nothing of the user's own Helm
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def problems(resource: dict[str, Any], version: str) -> list[str]:
    """What a cluster of this version would not take of a resource; a field that it does not know is among it."""
    schema = _own_schema(resource) or _kubernetes_schema(resource, version)
    registry: Registry[Any] = Registry(retrieve=lambda uri: _retrieved(uri, version))  # type: ignore[call-arg]
    validator = Draft4Validator(schema, registry=registry)
    where = f"{resource['kind']} {resource['metadata']['name']}"
    return [f"{where} {error.json_path}: {error.message}" for error in validator.iter_errors(resource)]


@cache
def helm() -> str:
    """The path of a Helm that runs. Blocking: downloads 37 MB the first time."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        found = shutil.which("helm")
        assert found, "the chart's tests need Helm: install helm 3 or 4 (macOS: brew install helm)"
        return found
    program = _cache() / "helm"
    if not program.exists():
        with zipfile.ZipFile(_wheel("aws_cdk")) as wheel:
            layer = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(layer))) as package:
                inner = package.extractfile("package/lib/layer.zip")
                assert inner is not None
                content = zipfile.ZipFile(inner).read("helm/helm")
        with tempfile.NamedTemporaryFile(dir=_cache(), delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o755)
        Path(file.name).rename(program)
    return str(program)


def _kubernetes_schema(resource: dict[str, Any], version: str) -> dict[str, Any]:
    group = resource["apiVersion"].partition("/")[0].partition(".")[0] if "/" in resource["apiVersion"] else ""
    name = "-".join(filter(None, (resource["kind"].lower(), group, resource["apiVersion"].rpartition("/")[2])))
    return _read(f"{name}.json", version)


def _own_schema(resource: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a kind that an operator brings."""
    wanted = resource["apiVersion"], resource["kind"]
    for file in CRDS.glob("*.yaml"):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            if (f"{spec['group']}/{version['name']}", spec["names"]["kind"]) == wanted:
                schema: dict[str, Any] = _closed(version["schema"]["openAPIV3Schema"])
                return schema
    return None


def _closed(schema: Any) -> Any:
    """The schema, so that it refuses fields that it does not name: the API server would drop them."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if "properties" in schema and "type" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def _retrieved(uri: str, version: str) -> Resource[Any]:
    return DRAFT4.create_resource(_read(uri.rpartition("/")[2], version))


@cache
def _read(name: str, version: str) -> dict[str, Any]:
    with zipfile.ZipFile(_wheel("kubernetes_validate")) as wheel:
        schema: dict[str, Any] = json.loads(wheel.read(SCHEMAS.format(version) + name))
    return schema


@cache
def _wheel(name: str) -> Path:
    """The wheel, downloaded if it is not there yet: pip compares it with its hash. Several may do so at once."""
    folder = _cache()
    if not any(folder.glob(f"{name}*.whl")):
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
            subprocess.run(
                [*command, "--require-hashes", "--dest", fresh, "--requirement", str(WHEELS)], check=True, timeout=600
            )
            for file in Path(fresh).iterdir():
                file.rename(folder / file.name)
    (found,) = folder.glob(f"{name}*.whl")
    return found


@cache
def _cache() -> Path:
    recipe = hashlib.sha256(WHEELS.read_bytes()).hexdigest()[:8]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    folder = root / "headrace" / f"kubernetes-{recipe}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
