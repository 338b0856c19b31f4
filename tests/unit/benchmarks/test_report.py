"""Tables and pictures that come from benchmarks/results.json."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import report
from benchmarks.pictures import Bar, chart
from benchmarks.report import DOCUMENTS, FIGURES, MARKED, NOT_YET, PICTURES, filled, pictures
from benchmarks.results import RATIOS, RESULTS, read, record, spread

PROJECT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def three(value: float) -> dict[str, float]:
    return spread([value, value * 0.9, value * 1.1], 2)


ROWS = {
    name: {"records_per_second": three(rate), "cpu_us": three(9.5), "peak_megabytes": 120}
    for name, rate in (("stock", 4_000.0), ("bare", 61_000.0), ("ours", 67_000.0))
}
SYNTHETIC: dict[str, dict[str, Any]] = {
    "faust_stage": {"rounds": 3, "rows": ROWS, "ours_to_bare": 1.09, "ours_to_stock": 16.7},
    "postgres_sink": {
        "rounds": 3,
        "rows": {"sink, Kafka to insert": {"rows_per_second": three(40_000), "cpu_us": three(13)}},
        "insert_to_loop": 0.8,
        "update_to_loop": 0.7,
    },
    "whole": {
        "records": 200_000,
        "rounds": 3,
        "records_per_second": 9_500,
        "records_per_second_range": [9_000, 9_900],
        "postgres_records_per_second": 12_000,
        "cpu_us_per_record": 160.5,
        "cpu_us_per_record_range": [158.0, 165.0],
        "cpu_us_per_record_by_process": {"elasticsearch": 70.0, "normalizer": 12.5, "api": 0},
        "peak_megabytes": {"elasticsearch": 700, "normalizer": 130, "api": 90},
        "latency_cold_ms": {"rate": 1_000, "p50": 90.0, "p99": 400.0, "worst": 500.0},
        "latency_warm_ms": {"rate": 1_000, "p50": 30.0, "p99": 100.0, "worst": 150.0},
    },
    "reads": {
        "requests": {
            "hello": {"per_second": 7_000.0, "p50": 2.0, "p99": 4.0},
            "customer, cached": {"per_second": 4_900.0, "p50": 3.0, "p99": 6.0},
        },
        "cached_to_hello": 0.7,
        "page_to_hello": 0.4,
        "search_to_elasticsearch": None,
    },
    "command_line": {"rows": {"headrace --help": {"seconds": three(0.2), "cpu_s": 0.19}}, "help_seconds": 0.2},
    "peers_whole": {
        "rounds": 3,
        "rows": {"Headrace": ROWS["ours"], "Kafka Streams + Kafka Connect": ROWS["bare"]},
        "left_out": {"Flink": "left out: not to be had"},
        "ours_to_others": {"Kafka Streams + Kafka Connect": 1.5},
        "cpu_of_others": {"Kafka Streams + Kafka Connect": 0.7},
    },
}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "results.json"
    for name, figures in SYNTHETIC.items():
        record(name, figures, file)
    return file


def test_every_figure_that_is_compared_from_day_to_day_is_kept_by_its_benchmark(kept: Path) -> None:
    asked_for = {
        "faust_stage_vs_bare_loop", "faust_stage_vs_stock_faust", "postgres_insert_vs_loop", "postgres_update_vs_loop",
        "elasticsearch_vs_ndjson", "cached_read_vs_hello", "page_vs_hello", "search_vs_elasticsearch",
        "whole_cpu_us_per_record", "whole_records_per_s", "latency_p50_ms", "latency_p99_ms", "help_seconds",
    }  # fmt: skip
    assert asked_for <= RATIOS.keys()
    ratios = read(kept)["ratios"]
    assert ratios["faust_stage_vs_stock_faust"] == 16.7
    assert ratios["whole_rate_vs_peers"] == 1.5
    assert ratios["help_seconds"] == 0.2
    assert "elasticsearch_vs_ndjson" not in ratios


def test_a_median_has_its_range() -> None:
    assert spread([3.0, 1.0, 2.04]) == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_every_mark_in_the_documents_names_figures_and_all_figures_are_shown() -> None:
    named = [mark[1] for name in DOCUMENTS for mark in MARKED.findall((PROJECT / name).read_text())]
    assert sorted(named) == sorted(FIGURES)


def test_the_documents_say_what_the_results_say() -> None:
    if RESULTS.exists():
        known = read(RESULTS)
        for name in DOCUMENTS:
            assert filled((PROJECT / name).read_text(), known) == (PROJECT / name).read_text(), (
                "python -m benchmarks.report"
            )
        for name, text in pictures(known["benchmarks"]).items():
            assert (PROJECT / PICTURES / f"{name}.svg").read_text() == text, "python -m benchmarks.report"


def test_tables_hold_medians_with_ranges_and_why_somebody_is_left_out(kept: Path) -> None:
    text = filled("".join(f"<!-- figures: {name} --><!-- end -->" for name in FIGURES), read(kept))
    assert "| Headrace: Faust on batches | 67,000 (60,300 to 73,700) | 9.5 (8.55 to 10.4) | 120 |" in text
    assert "| Flink |  |  | left out: not to be had |" in text
    assert "| raw record to change event at 1,000/s, warm | p50 30 ms, p99 100 ms, worst 150 ms |" in text
    assert "| customer, cached | 4,900 | 0.70 | 3 | 6 |" in text
    assert "![Records per second from raw to clean" in text
    assert text.count(NOT_YET) == 5  # memory, Elasticsearch, CSV and two of the peers' have not been run
    assert filled(text, read(kept)) == text


def test_figures_that_are_kept_flat_have_rows_too() -> None:
    flat = {"rows": 900, "loop_rows_per_second": 300.0, "source_rows_per_second": 200, "source_peak_mb": 80.5}
    assert report.rows_of(flat) == {
        "loop": {"rows_per_second": 300.0},
        "source": {"rows_per_second": 200, "peak_mb": 80.5},
    }
    assert report.rows_of({"megabytes": 3}) == {}
    nested = {"sink": {"per_second": 9, "range": [8, 10], "cpu_us": 5.5, "elasticsearch_cpu_us": 60.0}, "rounds": 3}
    assert report.rows_of(nested) == {
        "sink": {
            "documents_per_second": {"median": 9, "low": 8, "high": 10},
            "cpu_us": 5.5,
            "server_cpu_us": 60.0,
        }
    }


def test_nothing_measured_is_said_and_shows_no_picture() -> None:
    text = filled("<!-- figures: whole -->old<!-- end --><!-- figures: picture -->old<!-- end -->", {"benchmarks": {}})
    assert NOT_YET in text
    assert "old" not in text
    assert "svg" not in text


def test_the_command_writes_tables_and_pictures_once(kept: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "docs").mkdir(parents=True)
    for name in DOCUMENTS:
        (project / name).write_text((PROJECT / name).read_text())
    words = ["--results", str(kept), "--project", str(project)]
    app = typer.Typer()
    app.command()(report.main)
    run = CliRunner().invoke
    assert run(app, [*words, "--check"]).exit_code == 1
    assert run(app, words).exit_code == 0
    assert run(app, [*words, "--check"]).exit_code == 0
    linked = re.findall(r"!\[[^]]*\]\((docs/benchmarks/.+?)\)", (project / "README.md").read_text())
    assert linked
    assert all((project / name).exists() for name in linked)


def test_a_picture_is_well_formed_has_colours_for_dark_pages_and_nothing_leaves_it(kept: Path) -> None:
    drawn = pictures(read(kept)["benchmarks"])
    assert set(drawn) == {"faust_stage", "postgres_sink", "whole", "reads", "peers_whole"}
    for text in drawn.values():
        root = ElementTree.fromstring(text)  # noqa: S314 (ours)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert "prefers-color-scheme:dark" in text
        assert root.attrib["aria-label"]
        for bar in root.iter(f"{SVG}rect"):
            assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width
        for words in root.iter(f"{SVG}text"):
            # At most 8 px a character: a guess that holds for 14 px of any sans-serif.
            long = 8 * len(words.text or "")
            x, anchor = float(words.attrib["x"]), words.attrib.get("text-anchor")
            assert (x - long if anchor == "end" else x) >= 0
            assert float(words.attrib["y"]) <= height
            if words.attrib["class"].startswith("figure"):
                assert x + long <= width


def test_bars_are_as_long_as_their_figures_and_the_longest_comes_first(kept: Path) -> None:
    root = ElementTree.fromstring(pictures(read(kept)["benchmarks"])["faust_stage"])  # noqa: S314 (ours)
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] / widths[0] == pytest.approx(61_000 / 67_000, abs=0.01)


def test_names_are_escaped_and_nothing_to_draw_is_an_error() -> None:
    ElementTree.fromstring(chart("a < b", 'say "&"', [Bar("<x>", 1, 1, 1)]))  # noqa: S314 (ours)
    with pytest.raises(ValueError, match="nothing to draw"):
        chart("none", "", [])
