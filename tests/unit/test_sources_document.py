"""The document of sources is true: every kind with every setting and its default, and no other."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from producers.block import FetchBlock, HttpBlock, SourceBlock
from producers.sources import KINDS, load_sources
from runtime.settings import Settings

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs/sources.md").read_text()
MODELS: dict[str, type[SourceBlock]] = {f"`{kind}`": model for kind, model in KINDS.items()}
MODELS["Every kind"] = SourceBlock  # type: ignore[type-abstract]
MODELS["Over HTTP: `api`, `rss`"] = HttpBlock  # type: ignore[type-abstract]


def section(title: str) -> str:
    return next(part for part in DOCUMENT.split("\n## ") if part.startswith(f"{title}\n"))


def documented(title: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `([a-z_0-9]+)` \| (.*?) \|", section(title), re.MULTILINE))


def settings_of(model: type[SourceBlock]) -> dict[str, Any]:
    return {
        field.alias or name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()
    }


def shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "needed"
    if default is None:
        return "none"
    plain = {} if isinstance(default, BaseModel) else list(default) if isinstance(default, tuple) else default
    return f"`{json.dumps(plain)}`"


@pytest.mark.parametrize(("title", "model"), MODELS.items(), ids=MODELS)
def test_every_setting_of_a_kind_is_in_its_table_with_its_default(title: str, model: type[SourceBlock]) -> None:
    inherited: set[str] = set()
    for parent in (SourceBlock, FetchBlock, HttpBlock):
        if issubclass(model, parent) and model is not parent:
            inherited |= set(settings_of(parent))
    if model is HttpBlock:
        inherited = set(settings_of(SourceBlock))  # type: ignore[type-abstract]
    own = {name: shown(default) for name, default in settings_of(model).items() if name not in inherited}
    assert documented(title) == own


def test_the_bounds_of_each_kind_over_http_are_told() -> None:
    told = dict(re.findall(r"`(\w+)`: (\d+)", section("Over HTTP: `api`, `rss`")))
    assert told == {kind: str(settings_of(KINDS[kind])["max_bytes"]) for kind in ("rss", "csv")}


def test_every_kind_is_in_the_table_of_kinds() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \| ", DOCUMENT.split("\n## ")[0], re.MULTILINE)) == set(KINDS)


def examples() -> str:
    commented = (PROJECT / "sources.toml").read_text().partition("# <examples>")[2].partition("# </examples>")[0]
    return re.sub(r"^#(?=\S)", "", commented, flags=re.MULTILINE)


def test_the_commented_examples_are_blocks_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", examples()):
        monkeypatch.setenv(name, "http://127.0.0.1/a-long-value")
    file = tmp_path / "sources.toml"
    file.write_text(examples())
    kinds = {source.description.kind for source in load_sources(file, Settings()).values()}
    assert kinds == set(KINDS) - {"api"}


def test_the_commented_examples_need_their_secrets(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(examples())
    sources = load_sources(file, Settings())
    assert set(sources) == {"exports", "prices"}
    assert "SHOP_SECRET is not set; set it in the environment or in .env" in sources.broken["shop"]


def test_the_shipped_file_is_toml_with_and_without_the_examples() -> None:
    text = (PROJECT / "sources.toml").read_text()
    assert not tomllib.loads(text)["sources"].keys() & tomllib.loads(examples())["sources"].keys()
