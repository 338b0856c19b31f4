from dashboard.bands import band


def test_a_band_needs_five_runs() -> None:
    assert band([100] * 4) is None


def test_equal_runs_leave_room_for_chance_and_a_fiftieth() -> None:
    usual = band([10_000] * 6)
    assert usual is not None
    assert (usual.low, usual.usual, usual.high, usual.runs) == (9_300, 10_000, 10_700, 6)
    small = band([4] * 5)
    assert small is not None
    assert (small.low, small.high) == (0, 11)


def test_one_odd_run_widens_nothing_and_twenty_are_looked_at() -> None:
    usual = band([100, 100, 100, 100, 9_999, *[100] * 30])
    assert usual is not None
    assert (usual.high, usual.runs) == (135, 20)


def test_it_is_the_rule_by_which_the_pipeline_tells_anomalies() -> None:
    from services.runs.anomalies import judge

    before = [{"records": float(count)} for count in (1000, 1010, 990, 1005, 1500, 995)]
    usual = band([int(run["records"]) for run in before])
    assert usual is not None
    for count in (usual.low - 1, usual.high + 1):
        assert judge({"records": count}, 0, before)
    for count in (usual.low + 1, usual.high - 1):
        assert not judge({"records": count}, 0, before)
