from dashboard.pages.runs import ingested


def test_a_run_that_goes_on_is_not_said_to_have_read_nothing() -> None:
    going = {"records_processed": None, "stored": None, "failed": None}
    assert ingested(going) == ("The run goes on", "")
    assert ingested(going | {"records_processed": 7}) == ("The run goes on", "7 records read")
    done = {"records_processed": 7, "stored": 6, "failed": 1}
    assert ingested(done) == ("7 records read", "6 stored, 1 rejected")
