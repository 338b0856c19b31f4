"""TLS and authentication to Kafka: one form of settings, for both client libraries. Pure; reads certificates only.

librdkafka (confluent-kafka) takes strings and paths, aiokafka, and with it Faust, a context of Python's ssl module.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

if TYPE_CHECKING:
    import ssl

    from runtime.kafka.tokens import Tokens

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "OAUTHBEARER": ("username", "password", "token_url"),
    "AWS_MSK_IAM": ("region",),
}
_BY_PASSWORD = ("username", "password")


class KafkaSecurity(BaseModel):
    """The way into a cluster. Raises ValidationError for what is incomplete or would be read past."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    """For OAUTHBEARER the client's id."""
    password: SecretStr | None = None
    """For OAUTHBEARER the client's secret."""
    token_url: str | None = None
    """The token endpoint of OAUTHBEARER: the client gets tokens by its own credentials there."""
    scope: str | None = None
    """The purpose of the tokens, in the words of the token endpoint; many want none."""
    region: str | None = None
    """The region of AWS, for AWS_MSK_IAM."""
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

    def client_config(self, folder: Path = Path()) -> dict[str, Any]:
        """Librdkafka's settings. Contains secrets. Relative paths are relative to `folder`.

        Raises NoToken where AWS_MSK_IAM lacks its package.
        """
        tokens = self._tokens()
        by_password = None if tokens else self.password
        found = {
            "security.protocol": self.protocol,
            "sasl.mechanism": "OAUTHBEARER" if tokens else self.mechanism,
            "oauth_cb": tokens.for_librdkafka if tokens else None,
            "sasl.username": None if tokens else self.username,
            "sasl.password": by_password.get_secret_value() if by_password else None,
            "ssl.ca.location": str(folder / self.ca_file) if self.ca_file else None,
            "ssl.certificate.location": str(folder / self.certificate_file) if self.certificate_file else None,
            "ssl.key.location": str(folder / self.key_file) if self.key_file else None,
            "ssl.key.password": self.key_password.get_secret_value() if self.key_password else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def aiokafka_config(self) -> dict[str, Any]:
        """The same for aiokafka. Contains secrets.

        Raises OSError when a file cannot be read or is no certificate, NoToken like `client_config`.
        """
        found: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            found["ssl_context"] = self._context()
        if tokens := self._tokens():
            found["sasl_mechanism"] = "OAUTHBEARER"
            found["sasl_oauth_token_provider"] = tokens.for_aiokafka()
        elif self.mechanism and self.password:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.username
            found["sasl_plain_password"] = self.password.get_secret_value()
        return found

    def _tokens(self) -> "Tokens | None":
        from runtime.kafka import tokens  # here, since few clients have any

        if self.mechanism == "AWS_MSK_IAM" and self.region:
            return tokens.msk_iam(self.region)
        if self.mechanism == "OAUTHBEARER" and self.token_url and self.username and self.password:
            return tokens.client_credentials(self.token_url, self.username, self.password, self.scope, self.ca_file)
        return None

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
    mechanism = given["mechanism"]
    needed = _NEEDED.get(str(mechanism), _BY_PASSWORD)
    for name in ("mechanism", *needed):
        if with_sasl and given[name] is None:
            return f"{named('protocol')} {protocol} needs {named(name)}" + (f" for {mechanism}" if mechanism else "")
    for name in ("mechanism", "username", "password", "token_url", "scope"):
        if not with_sasl and given[name] is not None:
            return f"{named(name)} is for SASL; set {named('protocol')} to SASL_SSL (or SASL_PLAINTEXT)"
    for name in ("username", "password", "token_url", "scope"):
        if name not in needed and given[name] is not None and not (name == "scope" and mechanism == "OAUTHBEARER"):
            return f"{named(name)} is not for {named('mechanism')} {mechanism}; leave it out"
    for name in ("ca_file", "certificate_file", "key_file"):
        if not with_tls and given[name] is not None:
            return f"{named(name)} is for TLS; set {named('protocol')} to SSL or SASL_SSL"
    if given["key_password"] is not None and given["key_file"] is None:
        return f"{named('key_password')} is for a key: set {named('key_file')}, and {named('certificate_file')}"
    if (given["certificate_file"] is None) != (given["key_file"] is None):
        return f"{named('certificate_file')} and {named('key_file')} belong together"
    return None
