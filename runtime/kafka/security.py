"""TLS and authentication to Kafka: one form of settings, for both client libraries. Pure; reads certificates only.

librdkafka (confluent-kafka) takes strings and paths, aiokafka, and with it Faust, a context of Python's ssl module.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

if TYPE_CHECKING:
    import ssl

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSecurity(BaseModel):
    """The way into a cluster. Raises ValidationError for what is incomplete or would be read past."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Certificates to trust; by default the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> "KafkaSecurity":
        if found := problem(dict(self)):
            raise ValueError(found)
        return self

    def client_config(self, folder: Path = Path()) -> dict[str, str]:
        """Librdkafka's settings. Contains secrets. Relative paths are relative to `folder`."""
        found = {
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password.get_secret_value() if self.password else None,
            "ssl.ca.location": str(folder / self.ca_file) if self.ca_file else None,
            "ssl.certificate.location": str(folder / self.certificate_file) if self.certificate_file else None,
            "ssl.key.location": str(folder / self.key_file) if self.key_file else None,
            "ssl.key.password": self.key_password.get_secret_value() if self.key_password else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def aiokafka_config(self) -> dict[str, Any]:
        """The same for aiokafka. Contains secrets. Raises OSError when a file cannot be read or is no certificate."""
        found: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            found["ssl_context"] = self._context()
        if self.mechanism and self.password:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.username
            found["sasl_plain_password"] = self.password.get_secret_value()
        return found

    def _context(self) -> "ssl.SSLContext":
        import ssl  # here, since commands that need none start sooner without

        context = ssl.create_default_context(cafile=self.ca_file)  # checks certificate and host, as librdkafka does
        if self.certificate_file:
            password = self.key_password.get_secret_value() if self.key_password else None
            context.load_cert_chain(self.certificate_file, self.key_file, password)
        return context


def problem(given: Mapping[str, object], named: Callable[[str], str] = str) -> str | None:
    """The problem with these fields of KafkaSecurity: one is missing or would be read past. None if they fit together.

    `named` makes the name that the user knows of a field's name.
    """
    protocol = str(given["protocol"])
    with_sasl, with_tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    for name in ("mechanism", "username", "password"):
        if with_sasl and given[name] is None:
            return f"{named('protocol')} {protocol} needs {named(name)}"
        if not with_sasl and given[name] is not None:
            return f"{named(name)} is for SASL; set {named('protocol')} to SASL_SSL (or SASL_PLAINTEXT)"
    for name in ("ca_file", "certificate_file", "key_file"):
        if not with_tls and given[name] is not None:
            return f"{named(name)} is for TLS; set {named('protocol')} to SSL or SASL_SSL"
    if given["key_password"] is not None and given["key_file"] is None:
        return f"{named('key_password')} is for a key: set {named('key_file')}, and {named('certificate_file')}"
    if (given["certificate_file"] is None) != (given["key_file"] is None):
        return f"{named('certificate_file')} and {named('key_file')} belong together"
    return None
