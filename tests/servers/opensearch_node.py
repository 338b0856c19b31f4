"""A single OpenSearch node from its Maven artifacts, in the place of Elasticsearch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_stack.elasticsearch import JAVA, Elasticsearch
from local_stack.errors import StackError
from local_stack.java import compile_java, find_jdk
from local_stack.maven import resolve
from local_stack.servers import RunningServers, started
from local_stack.unprivileged import make_data_folder, own, unprivileged
from tests.processes import free_port

RECIPE = Path(__file__).parent / "opensearch"


@dataclass(frozen=True)
class OpenSearch(Elasticsearch):
    """Implements Server under the name of what it stands for, and like that but for how it is laid out and started."""

    def prepare(self) -> None:
        own(self.data)
        for name in ("config", "store", "tmp"):
            own(self.data / name)

    def command(self) -> list[str]:
        jdk, folder = self.installation.jdk, self.installation.folder
        words = [
            jdk.path("java"), "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC",
            f"-Djava.io.tmpdir={self.data / 'tmp'}",
            "-cp", f"{folder / 'app'}:{folder / 'lib'}/*", "OpenSearchNode",
            f"path.home={self.data}", f"path.data={self.data / 'store'}",
            "node.name=headrace-1", "discovery.type=single-node", "network.host=127.0.0.1",
            f"http.port={self.port}", f"transport.port={self.transport_port}",
            "cluster.routing.allocation.disk.threshold_enabled=false",
        ]  # fmt: skip
        return unprivileged(words, self.environment())


@contextmanager
def start_opensearch(home: Path) -> Iterator[RunningServers]:
    """Run a node with its data and logs under `home`, and stop it at the end. Raises StackError."""
    jdk = find_jdk(JAVA)
    if jdk is None:
        raise StackError(f"OpenSearch needs a JDK {JAVA} or newer.", remedy="Install one, or set JAVA_HOME.")
    found = resolve(RECIPE, jdk, lambda folder: compile_java(jdk, RECIPE / "OpenSearchNode.java", folder, JAVA))
    data = home / "data"
    home.mkdir(mode=0o711)
    make_data_folder(data)
    node = OpenSearch(found, data.resolve() / "opensearch", free_port(), free_port())
    with started(RunningServers([node], home), data) as running:
        yield running
