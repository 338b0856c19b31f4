from typing import Any

import pytest

from dashboard.pages.lag import NEVER, drain
from dashboard.pages.overview import _done
from dashboard.words import ABSENT


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "left", "shown", "said"),
    [
        (None, None, None, ABSENT, "rates are not known yet"),
        (None, 4.0, None, ABSENT, "rates are not known yet"),
        (5.0, 4.0, None, NEVER, NEVER),
        (1.0, 4.0, 12.4, "12 s", "done in 12 s"),
    ],
)
def test_a_backlog_of_which_nothing_is_known_yet_is_not_said_to_grow(
    rate_in: float | None, rate_out: float | None, left: float | None, shown: str, said: str
) -> None:
    lag: dict[str, Any] = {"waiting": 9, "rate_in": rate_in, "rate_out": rate_out, "drain_seconds": left}
    assert drain(lag) == shown
    assert _done(lag) == said
