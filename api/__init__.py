"""The read side and its front door: what the stores hold, over HTTP."""

import sys

# Elasticsearch's client loads Arrow, NumPy and requests where they are installed, and needs none of them here: 37 MB of
# memory in every process of the API. Not found this once, they are left out; exports import them as ever.
_unneeded = {"pyarrow", "requests"} - sys.modules.keys()
sys.modules.update(dict.fromkeys(_unneeded))  # type: ignore[arg-type]
import elasticsearch  # noqa: E402, F401

for _name in _unneeded:
    del sys.modules[_name]
