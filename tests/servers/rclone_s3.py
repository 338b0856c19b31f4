"""A real S3 server for the tests: rclone serves a folder by S3's protocol, from a wheel, up in under a second.

https://rclone.org/commands/rclone_serve_s3, MIT: signatures (version 4), multipart uploads and errors as S3 has them.
"""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import httpx

PROGRAM = Path(sysconfig.get_path("scripts"), "rclone")

ACCESS_KEY, SECRET_KEY = "headrace-tests", "only-for-tests-on-loopback"

UNFINISHED = ".rclone_temp_multipart_*"


@dataclass(frozen=True)
class RcloneS3:
    """An S3 server; implements local_stack.server.Server."""

    data: Path
    port: int

    name = "rclone"
    stop_signal = "TERM"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def buckets(self) -> Path:
        """A folder per bucket."""
        return self.data / "buckets"

    def unfinished_uploads(self, bucket: str) -> list[Path]:
        """What has arrived of multipart uploads that were neither completed nor aborted: files that no client sees."""
        return [path for path in (self.buckets / bucket).rglob(UNFINISHED) if path.stat().st_size]

    def prepare(self) -> None:
        self.buckets.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        # No configuration: neither of whoever runs the tests, nor one of its own.
        return [str(PROGRAM), "serve", "s3", "--config", "", "--addr", f"127.0.0.1:{self.port}", str(self.buckets)]

    def environment(self) -> dict[str, str]:
        return {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}

    def addresses(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def problem(self) -> str | None:
        try:
            answer = httpx.get(self.url, timeout=2.5, trust_env=False)
        except httpx.HTTPError as error:
            return f"does not answer: {error}"
        # Who signs nothing is refused, by an error document of S3's form.
        return None if answer.status_code == 400 and b"<Code>" in answer.content else f"answers {answer}"
