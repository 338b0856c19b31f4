"""Makes `data/raw.csv`, sales as they come from a shop: `python -m data.generate [FILE]`; `headrace setup` does it too.

5,200 rows: 4,680 orders, 260 rows that repeat one of them under its order_id, 260 that are no orders. The same bytes on
every run: the seed is fixed and no date depends on today.
"""

import csv
import io
import os
import random
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

COLUMNS = ("order_id", "customer_id", "product", "quantity", "price", "order_date")
RAW_FILE = Path(__file__).parent / "raw.csv"
SEED = 20240103

ORDERS, REPEATS, INVALID = 4_680, 260, 260
WITHOUT_QUANTITY = 312
"""Orders whose quantity is missing: they are orders of one piece."""
RETRIED = 60
"""Of the invalid rows, those of an order that another row has right: the shop's clerk tried again."""

PRODUCTS = {
    "Laptop": 89_900, "Monitor": 24_900, "Keyboard": 7_950, "Mouse": 2_495, "Headphones": 12_900, "Webcam": 6_999,
    "Desk lamp": 3_450, "Office chair": 19_900, "USB hub": 2_999, "Notebook, ruled": 425, "Pen": 199, "Backpack": 5_900,
}  # fmt: skip
"""Products and their prices in cents."""

FIRST_DAY, DAYS = date(2024, 1, 1), 366
DATE_FORMS = ("%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%Y-%m-%dT%H:%M:%S")

Row = dict[str, str]

SPOILS: tuple[Callable[[Row], Row], ...] = (
    lambda row: row | {"order_date": ""},
    lambda row: row | {"order_date": ""},
    lambda row: row | {"order_date": "2024-02-30"},
    lambda row: row | {"order_date": "not a date"},
    lambda row: row | {"price": f"-{row['price']}"},
    lambda row: row | {"price": ""},
    lambda row: row | {"price": "free"},
    lambda row: row | {"price": "9.999"},
    lambda row: row | {"quantity": "0"},
    lambda row: row | {"quantity": "-2"},
    lambda row: row | {"quantity": "2.5"},
    lambda row: row | {"quantity": "two"},
    lambda row: row | {"product": " "},
)


def build_rows() -> list[Row]:
    """The rows in the order of the file. Pure."""
    chance = random.Random(SEED)  # noqa: S311 (sample data)
    orders = [_order(chance, number) for number in range(1, ORDERS + 1)]
    for order in chance.sample(orders, WITHOUT_QUANTITY):
        order["quantity"] = ""
    repeats = [_repeat(chance, order) for order in chance.sample(orders, REPEATS)]
    retried = chance.sample(orders, RETRIED)
    wrong = [*retried, *(_order(chance, ORDERS + 1 + number) for number in range(INVALID - RETRIED))]
    invalid = [SPOILS[number % len(SPOILS)](row) for number, row in enumerate(wrong)]
    rows = [*orders, *repeats, *invalid]
    chance.shuffle(rows)
    return rows


def _order(chance: random.Random, number: int) -> Row:
    product = chance.choice(list(PRODUCTS))
    cents = PRODUCTS[product] * chance.choice((100, 100, 100, 95, 90, 80)) // 100
    day = FIRST_DAY + timedelta(days=chance.randrange(DAYS))
    return {
        "order_id": f"ORD-{number:05}",
        "customer_id": f"CUST{chance.randint(1, 400):03}",
        "product": product,
        "quantity": str(chance.choice((1, 1, 1, 2, 2, 3, 4, 5, 10))),
        "price": f"{cents // 100}.{cents % 100:02}",
        "order_date": day.strftime(chance.choice(DATE_FORMS)),
    }


def _repeat(chance: random.Random, order: Row) -> Row:
    """The same row again, or a later state of it; whichever comes first in the file is the order."""
    return order | {"quantity": str(chance.randint(1, 9))} if chance.random() < 0.5 else dict(order)


def raw_csv() -> bytes:
    """The file's content. Pure."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(build_rows())
    return text.getvalue().encode()


def make_raw_file(path: Path = RAW_FILE) -> bool:
    """Write the file if it is not there; whether it was written. A file that is there is somebody's: it stays."""
    if path.exists():
        return False
    building = path.with_name(f".{path.name}.{os.getpid()}")  # two stacks may start at once
    building.write_bytes(raw_csv())
    building.rename(path)
    return True


def main() -> int:
    """The command; the exit code."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RAW_FILE
    made = make_raw_file(path)
    sys.stdout.write(f"{path}: {len(build_rows()):,} rows\n" if made else f"{path} is there already; it stays\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
