"""How a client proves itself to somebody else's cluster, in a block's words and in librdkafka's."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator


class KafkaSecurity(BaseModel):
    """The `security` table of a Kafka source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Certificates to trust; by default the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> "KafkaSecurity":
        with_sasl, with_tls = self.protocol.startswith("SASL"), self.protocol.endswith("SSL")
        account = {"mechanism": self.mechanism, "username": self.username, "password": self.password}
        files = {"ca_file": self.ca_file, "certificate_file": self.certificate_file, "key_file": self.key_file}
        for name, value in account.items():
            if with_sasl and value is None:
                raise ValueError(f"protocol {self.protocol} needs {name}")
            if not with_sasl and value is not None:
                raise ValueError(f"{name} is for SASL; set protocol to SASL_SSL (or SASL_PLAINTEXT)")
        if not with_tls and (given := [name for name, value in files.items() if value is not None]):
            raise ValueError(f"{given[0]} is for TLS; set protocol to SSL or SASL_SSL")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self

    def client_config(self, folder: Path) -> dict[str, str]:
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
