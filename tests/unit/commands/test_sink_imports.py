import subprocess
import sys

LOADED = "import sys, commands.sink; print(*sys.modules)"


def test_no_client_of_a_store_is_loaded_before_a_sink_is_named() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    assert {"asyncpg", "elasticsearch", "redis"} & set(loaded) == set()
