from pathlib import Path
from typing import Any

import pytest

from data.generate import RAW_FILE
from producers.api.source import ApiSource
from producers.csv.source import CsvSource
from producers.kafka.source import KafkaSource
from producers.sources import SourcesError, build_source, load_sources, sources_version
from runtime.settings import Settings
from schemas.registry import dataset_named

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sources.toml"


def problem(file: Path, block: str, settings: Settings | None = None) -> str:
    file.write_text(block)
    [text] = load_sources(file, settings or Settings()).broken.values()
    return text.removeprefix(f"{file}: ")


def test_the_shipped_file_declares_customers_titanic_posts_and_orders() -> None:
    sources = load_sources(REPOSITORY / "sources.toml", Settings(mock_url="http://mock:1"))
    customers, titanic, posts, orders = sources.values()
    assert list(sources) == ["customers_api", "titanic", "posts", "orders"]
    assert isinstance(customers, ApiSource)
    assert customers.block.url == "http://mock:1/api/customers"
    assert isinstance(titanic, CsvSource)
    assert titanic.path.is_file()
    assert isinstance(posts, ApiSource)
    assert posts.block.url == "http://mock:1/posts"
    assert isinstance(orders, CsvSource)
    assert orders.path == RAW_FILE


def test_api_host_changes_only_the_address_of_the_posts() -> None:
    sources = load_sources(REPOSITORY / "sources.toml", Settings(mock_url="http://mock:1", api_host="http://other:2"))
    posts, customers = sources["posts"], sources["customers_api"]
    assert isinstance(posts, ApiSource)
    assert isinstance(customers, ApiSource)
    assert posts.block.url == "http://other:2/posts"
    assert customers.block.url == "http://mock:1/api/customers"


def test_variables_come_from_the_environment_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_HOST", "https://shop.example")
    file.write_text('[sources.shop]\nkind = "api"\nurl = "${SHOP_HOST}/items"\ndataset = "records"')
    shop = load_sources(file, Settings())["shop"]
    assert isinstance(shop, ApiSource)
    assert shop.block.url == "https://shop.example/items"


def test_variables_come_from_the_env_file_too_and_the_environment_wins(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / ".env").write_text("SHOP_HOST=https://file.example\nEMPTY=from-the-file\n")
    monkeypatch.setenv("EMPTY", "")
    file.write_text('[sources.shop]\nkind = "api"\nurl = "${SHOP_HOST}/${EMPTY}"\ndataset = "records"')

    def url() -> str:
        shop = load_sources(file, Settings())["shop"]
        assert isinstance(shop, ApiSource)
        return shop.block.url

    assert url() == "https://file.example/from-the-file"
    monkeypatch.setenv("SHOP_HOST", "https://environment.example")
    assert url() == "https://environment.example/from-the-file"


def test_another_env_file_is_another_version_of_the_sources(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    settings = Settings(sources_file=file)
    file.write_text(CSV)
    before = sources_version(settings)
    assert sources_version(settings) == before
    (file.parent / ".env").write_text("SHOP_SECRET=x")
    assert sources_version(settings) != before


@pytest.mark.parametrize(
    "wrong",
    [
        '[sources.wrong]\nkind = "webhook"\ndataset = "records"\nsecret = "${NO_SUCH_SECRET}"',
        '[sources.wrong]\nkind = "apo"',
        '[sources.wrong]\nkind = "csv"\npath = "x"\ndataset = "records"\nmap = { titel = "t" }',
        '[sources.wrong]\nkind = "api"\nurl = "ftp://h"\ndataset = "records"',
        "[sources]\nwrong = 3",
        "[wrong]\nkind = 'csv'",
    ],
)
def test_a_block_that_is_wrong_harms_no_other(file: Path, wrong: str) -> None:
    file.write_text(f"{wrong}\n{CSV}")
    sources = load_sources(file, Settings())
    assert list(sources) == ["a"]
    assert "wrong" in sources.broken["wrong"]
    with pytest.raises(SourcesError, match="wrong"):
        sources["wrong"]


def test_key_is_short_for_a_mapping_of_the_last_key_field(file: Path) -> None:
    file.write_text('[sources.a]\nkind = "csv"\npath = "a.csv"\ndataset = "records"\nkey = "No"\nmap = { name = "N" }')
    description = load_sources(file, Settings())["a"].description
    assert description.mapping == {"name": "N", "source_id": "No"}
    assert description.dataset is dataset_named("records")


def test_invisible_characters_in_a_blocks_column_names_are_dropped(file: Path) -> None:
    block = 'kind = "csv"\npath = "a.csv"\ndataset = "records"\nkey = "\ufeffNo"\nmap = { name = "First\u00a0name" }'
    file.write_text(f"[sources.a]\n{block}", encoding="utf-8-sig")
    description = load_sources(file, Settings())["a"].description
    assert description.mapping == {"name": "First name", "source_id": "No"}


def test_paths_are_relative_to_the_file(file: Path) -> None:
    file.write_text('[sources.a]\nkind = "csv"\npath = "data/a.csv"\ndataset = "records"')
    source = load_sources(file, Settings())["a"]
    assert isinstance(source, CsvSource)
    assert source.path == file.parent / "data/a.csv"


API = '[sources.a]\nkind = "api"\nurl = "http://h/x"\ndataset = "records"\n'
CSV = '[sources.a]\nkind = "csv"\npath = "a.csv"\ndataset = "records"\n'


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ('[sources.a]\nkind = "apo"', "[sources.a] kind = 'apo': expected one of api, csv, jsonl, kafka, rss, webhook"),
        ("[sources.a]", "[sources.a] kind = None: expected one of api, csv, jsonl, kafka, rss, webhook"),
        (
            API.replace("records", "users"),
            "[sources.a] dataset = 'users': users takes no records from sources: POST /users/ writes them",
        ),
        ("sources.a = 3", "[sources.a]: expected a block of settings, got 3"),
        ("[source.a]", "unknown table [source]; sources are declared as [sources.NAME]"),
        ('[sources.a]\nkind = "api"\ndataset = "records"', "[sources.a] url is missing: a source of kind api needs it"),
        ('[sources.csv]\nkind = "csv"', "[sources.csv]: 'csv' is the name of a kind; choose another name"),
        ('[sources."a:b"]\nkind = "csv"', "[sources.a:b]: source name 'a:b': use 1 to 100 letters"),
        (API + "page_size = 0", "[sources.a] page_size = 0: Input should be greater than or equal to 1"),
        (API + "retries = -1", "[sources.a] retries = -1: Input should be greater than or equal to 0"),
        (
            API + "pagesize = 1",
            "[sources.a] pagesize: there is no such setting; known are api_key, backoff_seconds, concurrency,",
        ),
        (
            API + 'pagination = { style = "links" }',
            "[sources.a] pagination.style = 'links': Input should be 'envelope'",
        ),
        (
            API.replace("http://h/x", "ftp://h"),
            "[sources.a] url = 'ftp://h': expected an address like https://host/path",
        ),
        (
            API.replace("http://h/x", "${NO_SUCH}/x"),
            "[sources.a] url: NO_SUCH is not set; set it in the environment or in .env",
        ),
        *(
            (
                API + f'api_key = "{wrong}"',
                "[sources.a] api_key: what begins with ${ must be ${NAME}: letters, digits and _ only, and no default",
            )
            for wrong in ("${SHOP-KEY}", "${SHOP_KEY:-hunter2hunter2}", "${ SHOP_KEY }", "${}", "a${SHOP_KEY")
        ),
        (
            API.replace('"records"', '"recods"'),
            "[sources.a] dataset = 'recods': there is no dataset 'recods'; known are:",
        ),
        (
            API + 'map = { titel = "t" }',
            "[sources.a]: map: dataset records has no field 'titel'; its fields are: source,",
        ),
        (API + 'key = "@row"', "[sources.a]: only the rows of a csv source have a place; @row"),
        (API + 'key = "a"\nmap = { source_id = "b" }', "[sources.a]: key = 'a' contradicts map.source_id = 'b'"),
        (CSV + 'encoding = "utf-9"', "[sources.a] encoding = 'utf-9': expected an encoding of text, e.g. utf-8"),
        (CSV + 'encoding = "base64"', "[sources.a] encoding = 'base64': expected an encoding of text"),
        (CSV + 'encoding = "idna"', "[sources.a] encoding = 'idna': expected an encoding of text"),
        (CSV + 'encoding = "punycode"', "[sources.a] encoding = 'punycode': expected an encoding of text"),
        *(
            (CSV + f"escape = {sign!r}", f"[sources.a]: escape = {sign!r}: expected a character that is no quote")
            for sign in ('"', ",", ";", " ")
        ),
        (CSV + "delimiter = '^'\nescape = '^'", "[sources.a]: escape = '^': expected a character that is no quote"),
        (
            CSV.replace("a.csv", "http://[::1/x"),
            "[sources.a] path = 'http://[::1/x': expected an address like https://host/path: Invalid port",
        ),
        (CSV.replace("a.csv", "HTTP://"), "[sources.a] path = 'HTTP://': expected an address like https://host/path"),
        (CSV.replace("a.csv", "https://xn--/x"), "[sources.a] path = 'https://xn--/x': Malformed A-label"),
        (
            CSV.replace("a.csv", "s3://b/x"),
            "[sources.a] path = 's3://b/x': s3:// is not read here; expected a path, or",
        ),
        (
            API.replace("//h/", "//h:99999/"),
            "[sources.a] url = 'http://h:99999/x': expected an address like https://host",
        ),
        (API + "interval_seconds = inf", "[sources.a] interval_seconds = inf: Input should be less than or equal to"),
        (
            API + "pagination = { pagesize = 3 }",
            "[sources.a] pagination.pagesize: there is no such setting; known are data_field, first_page,",
        ),
        (API + 'nulls = "NA"', "[sources.a] nulls = 'NA': expected an array, such as"),
        (API + 'pagination = "array"', "[sources.a] pagination = 'array': expected a table, such as"),
        (CSV + 'delimiter = ",,"', "[sources.a] delimiter = ',,': expected one character"),
    ],
)
def test_an_error_names_block_setting_value_and_what_is_allowed(file: Path, block: str, expected: str) -> None:
    assert problem(file, block).startswith(expected)


def test_every_problem_of_the_file_is_named_at_once(file: Path) -> None:
    file.write_text('[sources.a]\nkind = "x"\n[sources.b]\nkind = "y"')
    broken = load_sources(file, Settings()).broken
    assert "[sources.a] kind = 'x'" in broken["a"]
    assert "[sources.b] kind = 'y'" in broken["b"]


def test_a_missing_file_says_how_to_name_one(file: Path) -> None:
    with pytest.raises(SourcesError, match="does not exist: name a file with --sources or SOURCES_FILE"):
        load_sources(file, Settings())


def test_a_file_that_is_no_toml_is_named(file: Path) -> None:
    file.write_text(CSV + CSV)
    with pytest.raises(SourcesError, match=r"cannot be read: .*line 5.*correct it there"):
        load_sources(file, Settings())


def test_the_word_tab_is_a_delimiter(file: Path) -> None:
    file.write_text(CSV + 'delimiter = "tab"')
    source = load_sources(file, Settings())["a"]
    assert isinstance(source, CsvSource)
    assert source.block.delimiter == "\t"


RSS = {"kind": "rss", "url": "http://h"}
KAFKA = {"kind": "kafka", "topic": "t", "bootstrap_servers": "b:1"}
WEBHOOK = {"kind": "webhook", "secret": "s" * 16}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (RSS | {"retry_on": [200]}, 'retry_on.0 = 200: expected a status from 400 to 599, "timeout" or "connection"'),
        (RSS | {"retry_on": ["soon"]}, "retry_on.0 = 'soon': expected a status"),
        (RSS | {"rate_limit": 0}, "rate_limit = 0: Input should be greater than 0"),
        (RSS | {"backoff_seconds": 60}, "backoff_seconds is more than longest_backoff_seconds"),
        (RSS | {"defaults": {"value": True}}, "defaults.value = True: expected a text or a number"),
        ({"kind": "jsonl"}, "path is missing: a source of kind jsonl needs it"),
        ({"kind": "webhook"}, "secret is missing: a source of kind webhook needs it"),
        (WEBHOOK | {"interval_seconds": 3}, "interval_seconds: a webhook is not fetched; leave it out"),
        (
            WEBHOOK | {"signed": "{timestmp}.{body}"},
            "signed: {timestmp} is not known; known are {body}, {timestamp} and",
        ),
        (WEBHOOK | {"signed": "x"}, "signed: expected {body} in it, once"),
        (
            WEBHOOK | {"signed": "{timestamp}{body}"},
            "signed: {timestamp} in it and timestamp_header or timestamp_prefix belong together",
        ),
        (WEBHOOK | {"timestamp_header": "X T"}, "timestamp_header = 'X T'"),
        (WEBHOOK | {"max_bytes": 10**9}, "max_bytes = 1000000000: Input should be less than or equal to 5242880"),
        (KAFKA | {"topic": "records.raw", "bootstrap_servers": "127.0.0.1:9092"}, "this is a topic of this pipeline"),
        (KAFKA | {"security": {"protocol": "SASL_SSL"}}, "protocol SASL_SSL needs mechanism"),
        (KAFKA | {"security": {"username": "u"}}, "username is for SASL; set protocol to SASL_SSL"),
        (KAFKA | {"security": {"ca_file": "x"}}, "ca_file is for TLS; set protocol to SSL"),
        (KAFKA | {"security": {"protocol": "SSL", "key_file": "x"}}, "certificate_file and key_file belong together"),
    ],
)
def test_settings_of_every_kind_are_refused_with_the_way_out(block: dict[str, Any], expected: str) -> None:
    with pytest.raises(SourcesError) as refusal:
        build_source("a", {"dataset": "records", **block}, Settings(), Path())
    [line] = str(refusal.value).splitlines()
    assert line.startswith("[sources.a]")
    assert expected in line


@pytest.mark.parametrize(
    "block",
    [
        WEBHOOK | {"secret": "hunter2"},
        WEBHOOK | {"secret": ["hunter2", "s" * 16]},
        *(RSS | {"url": url} for url in ("ftp://me:hunter2@h", "ftp://h/x?token=hunter2", "me:hunter2@h/x")),
        {"kind": "csv", "path": "http://me:hunter2@h:99999/x?token=hunter2"},
        {"kind": "csv", "path": "s3://me:hunter2@h/x"},
        KAFKA | {"security": {"password": "hunter2"}},
        KAFKA | {"security": {"protocol": "SSL", "key_password": "hunter2", "key_file": "k"}},
        KAFKA | {"security": {"protocol": "SASL_SSL", "mechanism": "no", "username": "u", "password": "hunter2"}},
    ],
)
def test_no_error_shows_a_secret(block: dict[str, Any]) -> None:
    with pytest.raises(SourcesError) as refusal:
        build_source("a", {"dataset": "records", **block}, Settings(), Path())
    assert "hunter2" not in str(refusal.value)


def test_a_kafka_sources_security_reaches_its_client_and_no_log() -> None:
    security = {
        "protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "u", "password": "hunter2",
        "ca_file": "ca.pem",
    }  # fmt: skip
    source = build_source("a", {"dataset": "records", **KAFKA, "security": security}, Settings(), Path("/etc"))
    assert isinstance(source, KafkaSource)
    assert source.security == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "hunter2",
        "ssl.ca.location": "/etc/ca.pem",
    }
    assert "hunter2" not in repr(source)
