from local_stack.process_status import History, history_of

SPAWNED = "2026-01-01 10:00:00,000 INFO spawned: 'redis' with pid {}"
CRASHED = "2026-01-01 10:00:01,000 WARN exited: redis (terminated by SIGKILL; not expected)"
STOPPED = "2026-01-01 10:00:01,000 WARN stopped: redis (terminated by SIGTERM)"


def test_a_start_after_a_crash_counts_as_a_restart() -> None:
    lines = [SPAWNED.format(1), CRASHED, SPAWNED.format(2), CRASHED, SPAWNED.format(3)]
    assert history_of(lines)["redis"] == History((1, 2, 3), restarts=2)


def test_stopping_and_starting_on_purpose_does_not_count_as_a_restart() -> None:
    assert history_of([SPAWNED.format(1), STOPPED, SPAWNED.format(2)])["redis"].restarts == 0


def test_a_crash_without_a_following_start_does_not_count_as_a_restart_yet() -> None:
    assert history_of([SPAWNED.format(1), CRASHED])["redis"].restarts == 0


def test_a_start_after_a_successful_exit_counts_as_a_restart_too() -> None:
    ended = "2026-01-01 10:00:01,000 INFO exited: redis (exit status 0; expected)"
    assert history_of([SPAWNED.format(1), ended, SPAWNED.format(2)])["redis"].restarts == 1
