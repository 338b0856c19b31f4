"""What is saved of a position is there again, for one run of a source at a time."""

import asyncio

import asyncpg
import pytest

from runtime.settings import Settings
from stores.checkpoints import CheckpointStore, CheckpointTaken, CheckpointUnavailable, Page, Position
from tests.waiting import eventually_async


def store(settings: Settings, run_id: str = "run", scope: str = "s", source: str = "shop") -> CheckpointStore:
    return CheckpointStore(settings, source, scope, run_id)


async def read(settings: Settings, *, anew: bool = False, scope: str = "s") -> Position | None:
    reading = store(settings, scope=scope)
    try:
        return await reading.begin(restart=anew)
    finally:
        await reading.close()


async def save(settings: Settings, *positions: Position) -> None:
    saving = store(settings)
    await saving.begin(restart=False)
    for position in positions:
        await saving.save(position)
    await saving.close()


def page(number: int | None, records: bytes = b"", etag: str | None = None) -> Page:
    return Page(number, etag, None, records)


async def test_a_position_with_its_pages_comes_back_in_the_order_in_which_they_were_saved(
    migrated_settings: Settings,
) -> None:
    assert await read(migrated_settings) is None
    big = {"offset": 2**63 + 1, "encoding": "utf-8", "end": None}
    await save(
        migrated_settings,
        Position(big, (page(1, b"a", '"x"'), page(2, b"b"), page(3, b"c"))),
        Position(None, (page(None, b"r"), page(1, b"d", '"y"'))),
    )
    expected = Position(big, (page(2, b"b"), page(3, b"c"), page(None, b"r"), page(1, b"d", '"y"')))
    assert await read(migrated_settings) == expected
    await save(migrated_settings, Position({"complete": True}, end=3))
    assert await read(migrated_settings) == Position({"complete": True}, (page(2, b"b"), page(1, b"d", '"y"')))


async def test_saving_a_position_twice_changes_nothing(migrated_settings: Settings) -> None:
    position = Position({"page": 1}, (page(1, b"a"),))
    await save(migrated_settings, position, position)
    assert await read(migrated_settings) == position


@pytest.mark.parametrize("void", ["anew", "another scope"])
async def test_a_void_checkpoint_is_deleted_at_once(migrated_settings: Settings, void: str) -> None:
    await save(migrated_settings, Position({"page": 1}, (page(1, b"a"),)))
    assert await read(migrated_settings, anew=void == "anew", scope="s" if void == "anew" else "t") is None
    assert await read(migrated_settings) is None


async def test_a_second_run_is_refused_and_let_in_when_the_first_has_closed(migrated_settings: Settings) -> None:
    first, second = store(migrated_settings, "1"), store(migrated_settings, "2")
    await first.begin(restart=False)
    with pytest.raises(CheckpointTaken, match="another run of shop is under way"):
        await second.begin(restart=False)
    other = store(migrated_settings, "3", source="office")
    await other.begin(restart=False)
    await other.close()
    await first.close()
    await second.begin(restart=False)
    await second.close()


async def test_a_run_that_lost_its_connection_saves_nothing_over_another_one(migrated_settings: Settings) -> None:
    first, second = store(migrated_settings, "1"), store(migrated_settings, "2")
    await first.begin(restart=False)
    first.abandon()

    async def begun() -> bool:
        await second.begin(restart=False)
        return True

    await eventually_async(begun, what="the server has ended the first one's session")
    await second.save(Position({"page": 2}))
    with pytest.raises(CheckpointTaken):
        await first.save(Position({"page": 1}))
    await second.close()
    with pytest.raises(CheckpointTaken):
        await first.save(Position({"page": 1}))
    await first.close()
    assert await read(migrated_settings) == Position({"page": 2})


async def test_a_database_without_the_tables_names_the_command_that_makes_them(settings: Settings) -> None:
    with pytest.raises(CheckpointUnavailable, match="`headrace setup` creates its tables"):
        await read(settings)


async def test_a_run_that_is_cancelled_while_it_takes_its_checkpoint_leaves_no_session(
    migrated_settings: Settings,
) -> None:
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    holder, observer = [await asyncpg.connect(migrated_settings.plain_database_url) for _ in range(2)]
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE etl_checkpoint")
            taking = store(migrated_settings)
            task = asyncio.create_task(taking.begin(restart=False))
            waiting = f"{sessions} AND wait_event_type = 'Lock'"
            await eventually_async(lambda: observer.fetchval(waiting), what="it waits for the table")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def only_the_holder_is_there() -> bool:
            return bool(await observer.fetchval(sessions) == 1)

        await eventually_async(only_the_holder_is_there, what="its session has ended", within=10)
    finally:
        await holder.close()
        await observer.close()
