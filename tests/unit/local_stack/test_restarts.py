from local_stack.process_status import History, history_of

SPAWNED = "2026-01-01 10:00:00,000 INFO spawned: 'redis' with pid {}"
CRASHED = "2026-01-01 10:00:01,000 WARN exited: redis (terminated by SIGKILL; not expected)"
STOPPED = "2026-01-01 10:00:01,000 WARN stopped: redis (terminated by SIGTERM)"


def test_a_start_after_a_crash_is_a_restart() -> None:
    lines = [SPAWNED.format(1), CRASHED, SPAWNED.format(2), CRASHED, SPAWNED.format(3)]
    assert history_of(lines)["redis"] == History((1, 2, 3), restarts=2)


def test_stopping_and_starting_on_purpose_counts_nothing() -> None:
    assert history_of([SPAWNED.format(1), STOPPED, SPAWNED.format(2)])["redis"].restarts == 0


def test_a_crash_that_was_not_followed_by_a_start_is_no_restart_yet() -> None:
    assert history_of([SPAWNED.format(1), CRASHED])["redis"].restarts == 0


def test_a_program_that_exits_by_itself_with_success_was_not_asked_to_either() -> None:
    ended = "2026-01-01 10:00:01,000 INFO exited: redis (exit status 0; expected)"
    assert history_of([SPAWNED.format(1), ended, SPAWNED.format(2)])["redis"].restarts == 1
