"""`python -m runtime.probe`: asks the process in this container for its health. Exit code 0: it is well.

A container's health check is a process of its own every few seconds: nothing but the standard library is loaded. A
container runs one role, and so one of the doors is open.
"""

import json
import os
import sys
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import BaseHandler, HTTPSHandler, OpenerDirector, ProxyHandler, build_opener

DOORS = (
    ("HEALTH_PORT", "/health"),
    ("API_PORT", "/api/health"),
    ("MOCK_PORT", "/api/health"),
    ("DASHBOARD_PORT", "/health"),
)
"""Port and path of a worker, the API, the mock server and the dashboard; the first that is open is asked."""

TIMEOUT_SECONDS = 3.0


def problem(environment: Mapping[str, str]) -> str | None:
    """The process's problem, None if it is well. Blocks for three seconds at most."""
    asked = []
    for variable, path in DOORS:
        port = environment.get(variable, "0")
        if port == "0":
            continue
        try:
            # No proxy that the environment names may stand between us and ourselves.
            encrypted = variable == "API_PORT" and environment.get("API_TLS_CERTIFICATE_FILE")
            address = f"http{'s' * bool(encrypted)}://127.0.0.1:{port}{path}"
            with _opener(bool(encrypted)).open(address, timeout=TIMEOUT_SECONDS) as answer:
                _tell_paused(answer.read())
                return None
        except HTTPError as error:
            with error:
                return f"{path} answers {error.code}: {error.read().decode(errors='replace').strip()}"
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if not isinstance(reason, ConnectionRefusedError):
                return f"{path} on port {port} does not answer: {reason!r}"
            asked.append(f"{port} ({variable})")
    return f"nothing listens on port {', '.join(asked) or '(no port is set)'}"


def _opener(encrypted: bool) -> OpenerDirector:
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if encrypted:
        import ssl  # not for those who need none

        context = ssl.create_default_context()
        # The certificate is for the name by which others ask, and this is ourselves.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    return build_opener(*handlers)


def _tell_paused(body: bytes) -> None:
    """Print paused topics to the output that the container's health keeps: `headrace status` reads it there."""
    try:
        paused = json.loads(body).get("paused") or {}
    except (ValueError, AttributeError):
        return
    for topic, why in paused.items():
        sys.stdout.write(f"{topic} is paused: {why}\n")


def main() -> str | None:
    """The output of the health check; None, and so exit code 0, if the process is well."""
    return problem(os.environ)


if __name__ == "__main__":
    sys.exit(main())
