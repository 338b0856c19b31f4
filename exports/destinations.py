"""Which destination is meant: a folder, an object store, or a folder in a bucket's place."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store, from_url

from exports.bucket import Bucket, first_line
from exports.destination import Destination
from exports.errors import ExportError
from exports.folder import Folder, StandIn
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


def destination_at(to: str, settings: Settings) -> Destination:
    """The destination that `to` names: a folder's path or an object store's URL. Connects to nothing.

    Raises ExportError for a URL that is none, and for a bucket without credentials or with half of a pair.
    """
    scheme, separator, _ = to.partition("://")
    if not separator:
        return Folder(Path(to))
    if scheme not in REMOTE:
        raise ExportError(f"{to!r}: expected a folder, or a URL that begins with {'://, '.join(REMOTE)}://")
    parts = urlsplit(to)
    if not _BUCKET.fullmatch(parts.netloc):
        raise ExportError(f"{to!r} names no bucket: expected e.g. {scheme}://bucket/prefix")
    if parts.query or parts.fragment or {".", ".."} & set(parts.path.split("/")):
        raise ExportError(f"{to!r}: a prefix has no '..', '.', '?' or '#': expected e.g. {scheme}://bucket/prefix")
    try:
        return _in_object_store(to.rstrip("/"), scheme, settings)
    except (BaseError, ValueError) as error:
        raise ExportError(f"{to!r}: {first_line(str(error))}") from error


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
        return StandIn((settings.object_store_dir / parts.netloc / parts.path.strip("/")).absolute(), url)
    options["allow_http"] = (settings.aws_endpoint_url or "").startswith("http://")
    return Bucket(S3Store.from_url(url, config=config, client_options=options, retry_config=retry), url)


def _s3_config(settings: Settings) -> "S3Config":
    """What the settings say; the library finds the rest, such as a region or a platform's credentials, by itself."""
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
