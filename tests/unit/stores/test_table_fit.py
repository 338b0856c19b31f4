"""When a column that is there holds what is declared."""

from typing import Any

import pytest
from sqlalchemy.dialects.postgresql import (
    BIGINT,
    CHAR,
    DATE,
    DOUBLE_PRECISION,
    INTEGER,
    NUMERIC,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    VARCHAR,
)
from sqlalchemy.types import TypeEngine

from stores.table_fit import holds


@pytest.mark.parametrize(
    ("found", "declared", "fits"),
    [
        (VARCHAR(50), VARCHAR(50), True),
        (VARCHAR(51), VARCHAR(50), True),
        (VARCHAR(49), VARCHAR(50), False),
        (TEXT(), VARCHAR(50), True),
        (VARCHAR(), TEXT(), True),
        (VARCHAR(50), TEXT(), False),
        (CHAR(50), VARCHAR(50), False),
        (NUMERIC(15, 2), NUMERIC(15, 2), True),
        (NUMERIC(16, 3), NUMERIC(15, 2), True),
        (NUMERIC(15, 3), NUMERIC(15, 2), False),
        (NUMERIC(20, 1), NUMERIC(15, 2), False),
        (NUMERIC(), NUMERIC(15, 2), True),
        (NUMERIC(15, 2), NUMERIC(), False),
        (NUMERIC(5), NUMERIC(5, 0), True),
        (BIGINT(), INTEGER(), True),
        (SMALLINT(), INTEGER(), False),
        (DOUBLE_PRECISION(), NUMERIC(15, 2), False),
        (DATE(), DATE(), True),
        (TIMESTAMP(timezone=True), DATE(), False),
    ],
)
def test_a_column_fits_that_has_room_for_every_declared_value(
    found: TypeEngine[Any], declared: TypeEngine[Any], fits: bool
) -> None:
    assert holds(found, declared) is fits
