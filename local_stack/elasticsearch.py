"""One Elasticsearch node from its Maven artifacts: core features, no security, loopback only."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from local_stack.java import Jdk, compile_java, find_jdk, java_variables
from local_stack.maven import ARTIFACTS, JavaServer, resolve, version_of
from local_stack.server import NoAnswer, get, listens
from local_stack.unprivileged import own, show, unprivileged

JAVA = 21
"""Elasticsearch 9.x is compiled for Java 21."""

HEAP_MB = 512

RECIPE = ARTIFACTS / "elasticsearch"

NATIVE_MODULES = (
    "org.elasticsearch.foreign",
    "org.elasticsearch.nativeaccess",
    "org.apache.lucene.core",
    "org.elasticsearch.simdvec",
)

LIBRARY_FOLDERS = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "lib")

UNSAFE_ACCESS_FLAG_SINCE = 23
"""Older JDKs refuse to start with --sun-misc-unsafe-memory-access; newer ones warn without it."""


def find_elasticsearch() -> JavaServer | str:
    """Find a JDK and resolve the node (blocking: a minute the first time), or say why there can be none.

    Raises StackError when Maven or the compiler fails: then one was possible.
    """
    jdk = find_jdk(JAVA)
    if jdk is None:
        return f"no JDK {JAVA} or newer was found"
    return resolve(RECIPE, jdk, lambda folder: _lay_out(folder, jdk))


def _lay_out(folder: Path, jdk: Jdk) -> None:
    """Make `modules`, `plugins` and `app` (our launcher) beside `lib`."""
    lib, module = folder / "lib", folder / "modules" / "transport-netty4"
    module.mkdir(parents=True)
    for pattern in ("netty-*.jar", "transport-netty4-*.jar"):
        for jar in lib.glob(pattern):
            jar.rename(module / jar.name)
    descriptor = (RECIPE / "plugin-descriptor.properties").read_text()
    (module / "plugin-descriptor.properties").write_text(descriptor.replace("@VERSION@", version_of(RECIPE)))
    (folder / "plugins").mkdir()
    compile_java(jdk, RECIPE / "EsNode.java", folder, JAVA)


@dataclass(frozen=True)
class Elasticsearch:
    """A single node; implements Server."""

    installation: JavaServer
    data: Path
    port: int
    transport_port: int

    name = "elasticsearch"
    stop_signal = "TERM"

    def prepare(self) -> None:
        """Lay out a home of its own around the shared jars. Implements Server.prepare."""
        for folder in (self.data, self._config):
            folder.mkdir(exist_ok=True)
            show(folder)
        for name in ("logs", "tmp", "store"):
            own(self.data / name)
        # path.home must be per node; modules and plugins are the shared, resolved ones.
        for shared in ("modules", "plugins"):
            link = self.data / shared
            link.unlink(missing_ok=True)
            link.symlink_to(self.installation.folder / shared)
        self._link_zstd()
        settings, logging = self._config / "elasticsearch.yml", self._config / "log4j2.properties"
        settings.write_text(self.configuration())
        shutil.copyfile(RECIPE / "log4j2.properties", logging)
        for file in (settings, logging):
            show(file)

    def _link_zstd(self) -> None:
        """Let the node find the system's zstd, which only `best_compression` needs; without it, it logs a warning."""
        platform = {"x86_64": "linux-x64", "aarch64": "linux-aarch64"}.get(os.uname().machine)
        library = next((path for folder in LIBRARY_FOLDERS for path in Path("/").glob(f"{folder}/libzstd.so.1")), None)
        if platform and library:
            link = self.data / "lib" / "platform" / platform / "libzstd.so"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(library)

    def configuration(self) -> str:
        """The content of elasticsearch.yml."""
        return "\n".join(
            [
                "cluster.name: headrace",
                "node.name: headrace-1",
                "discovery.type: single-node",
                "network.host: 127.0.0.1",
                f"http.port: {self.port}",
                f"transport.port: {self.transport_port}",
                # A laptop's disk is often 90 % full; the node would make every index read-only.
                "cluster.routing.allocation.disk.threshold_enabled: false",
                "",
            ]
        )

    @property
    def _config(self) -> Path:
        return self.data / "config"

    def command(self) -> list[str]:
        jdk, folder = self.installation.jdk, self.installation.folder
        unsafe = ["--sun-misc-unsafe-memory-access=allow"] if jdk.major >= UNSAFE_ACCESS_FLAG_SINCE else []
        words = [
            jdk.path("java"),
            f"-Xms{HEAP_MB}m",
            f"-Xmx{HEAP_MB}m",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Djava.io.tmpdir={self.data / 'tmp'}",
            "-Dfile.encoding=UTF-8",
            "-Djava.awt.headless=true",
            f"-Des.path.home={self.data}",
            f"-Des.path.conf={self._config}",
            "-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false",
            "-Dlog4j.shutdownHookEnabled=false",
            "-Dlog4j2.disable.jmx=true",
            *unsafe,
            "--add-modules=jdk.incubator.vector,jdk.net,jdk.management,ALL-MODULE-PATH",
            f"--enable-native-access={','.join(NATIVE_MODULES)}",
            f"--module-path={folder / 'lib'}",
            "-cp",
            str(folder / "app"),
            "EsNode",
            f"-Epath.data={self.data / 'store'}",
            f"-Epath.logs={self.data / 'logs'}",
        ]
        return unprivileged(words, self.environment())

    def environment(self) -> dict[str, str]:
        return java_variables()

    def addresses(self) -> dict[str, str]:
        return {"ELASTICSEARCH_URL": f"http://127.0.0.1:{self.port}"}

    def problem(self) -> str | None:
        return problem(self.port)


def problem(port: int) -> str | None:
    """Ask the node on this port for the cluster's health; see Server.problem.

    Yellow is well: a single node has nowhere to put replicas.
    """
    if not listens(port):
        return f"nothing listens on port {port}"
    try:
        status, body = get(port, "/_cluster/health")
    except NoAnswer as error:
        return str(error)
    colour = body.get("status") if isinstance(body, dict) else None
    return None if colour in ("yellow", "green") else f"cluster health is {colour or status}"
