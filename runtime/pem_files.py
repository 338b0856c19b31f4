"""Certificates and keys in PEM, tried out before a client or a server has to: what those say names no file.

Blocking. A check raises ValueError with what is wrong.
"""

from pathlib import Path


def check_trusted(file: Path) -> Path:
    """Certificates to trust, as both of our Kafka clients and the search server's read them."""
    import ssl  # here, since commands that need none start sooner without

    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # those of ssl are some too
        raise ValueError(f"expected a file of certificates in PEM: {error.strerror or error}") from None
    return file


def check_pair(certificate: Path, key: Path | None, password: str | None = None) -> None:
    """A certificate with its chain, and its key, which is in the same file unless it has one. Nobody is asked for the
    password of a key that has one.
    """
    import ssl  # as above

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: password or "")
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise ValueError(
            f"expected a certificate in PEM and the key that belongs to it, {'with' if password else 'without'} "
            f"a password: {name}{error.strerror or error}"
        ) from None
