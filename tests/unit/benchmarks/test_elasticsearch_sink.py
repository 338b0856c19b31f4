"""The figures of the benchmark of the Elasticsearch sink."""

from benchmarks.elasticsearch_sink import Rate, figures_of


def test_the_share_is_that_of_one_round_and_medians_count() -> None:
    loop = [Rate(1_000, 1.0, 50.0), Rate(2_000, 2.0, 40.0), Rate(500, 3.0, 60.0)]
    sink = [Rate(900, 9.0, 50.0), Rate(1_900, 8.0, 40.0), Rate(500, 10.0, 60.0)]
    figures = figures_of(30_000, {"cold": [Rate(400, 1.0, 120.0)], "loop": loop, "sink": sink})
    assert figures["sink_to_ndjson"] == 0.95
    assert figures["loop"] == {"per_second": 1_000, "range": [500, 2_000], "cpu_us": 2.0, "elasticsearch_cpu_us": 50.0}
    assert (figures["cold"]["per_second"], figures["sink"]["cpu_us"], figures["rounds"]) == (400, 9.0, 3)
