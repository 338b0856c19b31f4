"""Writes the data that the mock server serves: `python -m mock_server.generate`.

The same bytes come out on every run: the seeds are fixed, no date depends on today or on a time zone, and Faker's
version is pinned by the lock file (another version may know other names). A test compares the committed files with a
fresh run.
"""

import json
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from faker import Faker

from mock_server.records import CUSTOMERS_FILE, DATA_FOLDER, POSTS_FILE, SAMPLE_CUSTOMERS_FILE

CUSTOMER_COUNT = 10_000
POST_COUNT = 100
POSTS_PER_USER = 10
CUSTOMER_SEED = 20240101
POST_SEED = 20240102
CUSTOMER_ID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "customers.headrace.example")
"""`example` is reserved (RFC 2606), so no one else derives ids from this name."""

EARLIEST_BIRTH, LATEST_BIRTH = datetime(1940, 1, 1, tzinfo=UTC), datetime(2006, 12, 31, tzinfo=UTC)
EPOCH = datetime.fromtimestamp(0, UTC)
EARLIEST_CREATED, LATEST_CREATED = datetime(2019, 1, 1, tzinfo=UTC), datetime(2025, 6, 30, tzinfo=UTC)
MAIL_DOMAINS = ("example.com", "example.net", "example.org")
PHONE_FORMS = ("+1 ({area}) 555-{line}", "+1-{area}-555-{line}", "001 {area} 555 {line}", "+1{area}555{line}")
AREA_CODES = (202, 206, 212, 213, 214, 215, 303, 305, 312, 313, 404, 415, 503, 504, 512, 602, 612, 617, 702, 713, 808)

Record = Mapping[str, object]


def build_customers(samples: Sequence[Record], count: int = CUSTOMER_COUNT) -> list[Record]:
    """The samples, then generated customers up to `count`; a smaller count yields a prefix of a larger one.

    Ids are unique; emails are unique regardless of case; phones are international and in the range kept for fiction.
    """
    faker = Faker("en_US")
    faker.seed_instance(CUSTOMER_SEED)
    emails = {str(sample["email"]).lower() for sample in samples}
    kept = samples[:count]
    return [*kept, *(_customer(faker, number, emails) for number in range(len(kept) + 1, count + 1))]


def _customer(faker: Faker, number: int, emails: set[str]) -> Record:
    first_name, last_name = faker.first_name(), faker.last_name()
    created_at = _moment(faker, EARLIEST_CREATED, LATEST_CREATED)
    return {
        "customer_id": str(uuid.uuid5(CUSTOMER_ID_NAMESPACE, str(number))),
        "first_name": first_name,
        "last_name": last_name,
        "email": _free_email(first_name, last_name, faker.random.choice(MAIL_DOMAINS), emails),
        "phone": _fictional_phone(faker),
        "address": f"{faker.street_address()}, {faker.city()}, {faker.state_abbr()} {faker.postcode()}",
        "date_of_birth": _moment(faker, EARLIEST_BIRTH, LATEST_BIRTH).date().isoformat(),
        "account_balance": faker.random.randint(-50_000, 10_000_000) / 100,
        "created_at": created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _moment(faker: Faker, earliest: datetime, latest: datetime) -> datetime:
    # Faker's own are moments of the machine's time zone.
    return EPOCH + timedelta(seconds=faker.random.uniform(earliest.timestamp(), latest.timestamp()))


def _free_email(first_name: str, last_name: str, domain: str, taken: set[str]) -> str:
    """An address that is not in `taken`, numbered if need be; adds it there."""
    local = f"{first_name}.{last_name}".lower().replace(" ", "").replace("'", "")
    email, attempt = f"{local}@{domain}", 1
    while email in taken:
        attempt += 1
        email = f"{local}{attempt}@{domain}"
    taken.add(email)
    return email


def _fictional_phone(faker: Faker) -> str:
    """A North American number 555-0100 to 555-0199, which the numbering plan keeps for fiction."""
    form: str = faker.random.choice(PHONE_FORMS)
    return form.format(area=faker.random.choice(AREA_CODES), line=f"01{faker.random.randint(0, 99):02}")


def build_posts(count: int = POST_COUNT) -> list[Record]:
    """Posts with JSONPlaceholder's fields: ten per user, ids from 1, lower-case titles, bodies of four lines."""
    faker = Faker("en_US")
    faker.seed_instance(POST_SEED)
    return [
        {
            "userId": (number - 1) // POSTS_PER_USER + 1,
            "id": number,
            "title": faker.sentence(nb_words=6).rstrip(".").lower(),
            "body": "\n".join(faker.sentences(nb=4)),
        }
        for number in range(1, count + 1)
    ]


def one_per_line(records: Iterable[Record]) -> bytes:
    """A JSON array in UTF-8 with one record a line, so that a diff shows the records that changed."""
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def generate(folder: Path = DATA_FOLDER) -> list[Path]:
    """Write the customers and the posts into `folder`; returns the files. Running it again changes nothing."""
    samples = json.loads(SAMPLE_CUSTOMERS_FILE.read_bytes())
    contents = {
        folder / CUSTOMERS_FILE.name: one_per_line(build_customers(samples)),
        folder / POSTS_FILE.name: one_per_line(build_posts()),
    }
    for path, content in contents.items():
        path.write_bytes(content)
    return list(contents)


if __name__ == "__main__":
    for written in generate():
        sys.stdout.write(f"{written}: {written.stat().st_size:,} bytes\n")
