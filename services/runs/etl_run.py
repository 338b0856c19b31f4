"""A source as an ETL run: the way that every ingestion takes, whoever asks for it."""

from collections.abc import Callable

from producers.delivery import Progress
from producers.publish import PublishReport, publish
from producers.source import Source
from rehearsals.source import rehearsed_source
from runtime.settings import Settings
from services.runs.run import EtlRun, Published, begin_run
from stores.checkpoints import Checkpoint
from stores.coverage import Outcome


async def begin_source_run(source: Source, settings: Settings, trigger: str, run_id: str | None = None) -> EtlRun:
    """`begin_run` for a source of ours. Raises RunUnderWay, Unavailable."""
    description = source.description
    return await begin_run(settings, description.name, description.dataset.name, trigger, run_id)


async def publish_run(
    run: EtlRun,
    source: Source,
    settings: Settings,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> PublishReport:
    """Publish a source under its run, which learns how many records are confirmed and how they are read.

    Raises what `publish` raises.
    """

    def tell(now: Progress) -> None:
        run.published, run.encoding = now.confirmed, str(now.encoding) if now.encoding else None
        if progress is not None:
            progress(now)

    return await publish(
        rehearsed_source(source, settings), settings, run_id=run.run_id, progress=tell, checkpoint=checkpoint
    )


async def run_source(source: Source, settings: Settings, trigger: str, checkpoint: Checkpoint | None = None) -> Outcome:
    """Run a source from begin to end; returns when Postgres has every record, however long that takes.

    `checkpoint` as `publish` takes it. Raises RunUnderWay, SourceFailed, DeliveryFailed, CheckpointFailed, Unavailable,
    LockTaken; all but the first are recorded.
    """
    run = await begin_source_run(source, settings, trigger)

    async def published() -> Published:
        report = await publish_run(run, source, settings, checkpoint=checkpoint)
        return Published(report.published, report.offsets)

    return await run.complete(published)
