"""Where exported files go: a folder, an object store, or a folder in a bucket's place."""

import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store, from_url

from runtime.settings import Settings

if TYPE_CHECKING:  # the library has them for type checkers only
    from obstore.store import ClientConfig, RetryConfig, S3Config

S3 = "s3"
REMOTE = (S3, "gs", "az")
"""Schemes of object stores; gs and az take their credentials from the environment as their own tools do."""

DEMO_BUCKET = "test-bucket"
"""The bucket of the tour: without credentials a folder stands in for it. Any other is somebody's."""

_BUCKET = re.compile(r"[A-Za-z0-9$](?:[A-Za-z0-9_-]|\.(?!\.))*")

AMBIENT_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables by which a platform lends credentials to its processes."""

MAX_RETRIES = 3
"""With backoff some seconds: who exports waits for the answer."""

FILE_MODE = 0o640
"""Customers are nobody else's business; the group may be given the files to fetch."""


class ExportError(Exception):
    """The export cannot be made; nothing of it can be seen at its destination. The message says what to do."""


class Destination(ABC):
    """Takes finished files. Building one touches nothing."""

    verb: str
    """The log line's words between a file's name and its address."""
    remark: str | None = None
    """A line for people about an unexpected destination."""
    folder: Path | None = None
    """The folder of this machine that the files end in; None for a bucket."""

    @abstractmethod
    def check(self) -> None:
        """Raise ExportError if files cannot go there; called before the work begins. Blocking."""

    @abstractmethod
    def workspace(self) -> AbstractContextManager[Path]:
        """A folder to write the files in, removed in the end."""

    @abstractmethod
    def deliver(self, path: Path) -> str:
        """Put a file there under its name, atomically, and return its address. Blocking. Raises ExportError."""


def destination_at(to: str, settings: Settings) -> Destination:
    """The destination that `to` names: a folder's path or an object store's URL. Connects to nothing.

    Raises ExportError for a URL that is none, and for a bucket without credentials or with half of a pair.
    """
    scheme, separator, _ = to.partition("://")
    if not separator:
        return Folder(Path(to))
    if scheme not in REMOTE:
        raise ExportError(f"{to!r}: expected a folder, or a URL that begins with {'://, '.join(REMOTE)}://")
    try:
        parts = urlsplit(to)
    except ValueError as error:  # brackets without an address in them
        raise ExportError(f"{to!r}: {error}; expected e.g. {scheme}://bucket/prefix") from None
    if not _BUCKET.fullmatch(parts.netloc):
        raise ExportError(f"{to!r} names no bucket: expected e.g. {scheme}://bucket/prefix")
    if parts.query or parts.fragment or {".", ".."} & set(parts.path.split("/")):
        raise ExportError(f"{to!r}: a prefix has no '..', '.', '?' or '#': expected e.g. {scheme}://bucket/prefix")
    try:
        return _in_object_store(to.rstrip("/"), scheme, settings)
    except (BaseError, ValueError) as error:
        raise ExportError(f"{to!r}: {_first_line(str(error))}") from error


def _in_object_store(url: str, scheme: str, settings: Settings) -> Destination:
    options: ClientConfig = {"timeout": "60s", "connect_timeout": "5s"}
    retry: RetryConfig = {"max_retries": MAX_RETRIES}
    if scheme != S3:
        return Bucket(from_url(url, client_options=options, retry_config=retry), url)
    config = _s3_config(settings)
    if settings.object_store == "local" or (settings.object_store == "auto" and not _has_credentials(settings)):
        parts = urlsplit(url)
        if settings.object_store == "auto" and parts.netloc != DEMO_BUCKET:
            raise ExportError(
                f"there are no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
                "OBJECT_STORE=remote if this machine's role has them; OBJECT_STORE=local for a folder in its place"
            )
        return Folder((settings.object_store_dir / parts.netloc / parts.path.strip("/")).absolute(), url)
    options["allow_http"] = (settings.aws_endpoint_url or "").startswith("http://")
    return Bucket(S3Store.from_url(url, config=config, client_options=options, retry_config=retry), url)


def _s3_config(settings: Settings) -> "S3Config":
    """The settings' part; the library finds the rest, such as a region or a platform's credentials, by itself."""
    key, secret, token = settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token
    if (key is None) != (secret is None):
        missing = "AWS_SECRET_ACCESS_KEY" if secret is None else "AWS_ACCESS_KEY_ID"
        raise ExportError(f"{missing} is not set although the other half of the credentials is")
    config: S3Config = {}
    if key is not None and secret is not None:
        config |= {"access_key_id": key, "secret_access_key": secret.get_secret_value()}
    if token is not None:
        config["session_token"] = token.get_secret_value()
    if settings.aws_region is not None:
        config["region"] = settings.aws_region
    if settings.aws_endpoint_url is not None:
        config["endpoint"] = settings.aws_endpoint_url
    return config


def _has_credentials(settings: Settings) -> bool:
    return settings.aws_access_key_id is not None or any(os.environ.get(name) for name in AMBIENT_CREDENTIALS)


class Folder(Destination):
    """A folder of this machine. It may stand in for `url`, a prefix within a bucket."""

    def __init__(self, path: Path, url: str | None = None) -> None:
        self.folder: Path = path
        self._url = url
        self.verb = "uploaded to" if url else "written to"
        self.remark = f"No S3 credentials: {url} is the folder {path}" if url else None

    def check(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExportError(f"{self.folder} is no folder to export to: {error.strerror or error}") from error

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        # Within the folder, so that the last step is a rename and not a copy.
        try:
            scratch = tempfile.TemporaryDirectory(prefix=".export-", dir=self.folder)
        except OSError as error:
            raise ExportError(f"{self.folder} cannot be written to: {error.strerror or error}") from error
        with scratch as name:
            yield Path(name)

    def deliver(self, path: Path) -> str:
        try:
            path.chmod(FILE_MODE)
            _sync(path)
            target = path.replace(self.folder / path.name)
            _sync(self.folder)
        except OSError as error:
            raise ExportError(f"{self.folder / path.name} cannot be written: {error.strerror or error}") from error
        return _object_address(self._url, path.name) if self._url else str(target)


class Bucket(Destination):
    """A prefix within a bucket of an object store."""

    verb = "uploaded to"

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self._url = url

    def check(self) -> None:
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, OSError) as error:
            # Who may write need not be allowed to list.
            if "<Code>AccessDenied</Code>" not in str(error):
                raise self._failed(error) from error

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="headrace-export-") as name:
            yield Path(name)

    def deliver(self, path: Path) -> str:
        try:
            # In parts from 5 MiB on. The object appears when the last part is in; of a failed upload nothing does.
            obstore.put(self._store, path.name, path)
        except (BaseError, OSError) as error:
            raise self._failed(error) from error
        return _object_address(self._url, path.name)

    def _failed(self, error: Exception) -> ExportError:
        text = str(error)
        bucket = urlsplit(self._url).netloc
        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
            return ExportError(f"there is no bucket {bucket!r}: make it, or name another one")
        if re.search(r"status code: 40[13]", text):
            return ExportError(f"{self._url} refuses these credentials: {_first_line(text)}")
        return ExportError(f"{self._url} cannot be reached: {_first_line(text)}")


def _object_address(url: str, name: str) -> str:
    """As the log line has it: S3://bucket/prefix/name."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.upper()}://{rest}/{name}"


def _first_line(text: str) -> str:
    """An error's first line: the library appends its innards."""
    return text.strip().splitlines()[0][:400]


def _sync(path: Path) -> None:
    """Have the file, or the folder's names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
