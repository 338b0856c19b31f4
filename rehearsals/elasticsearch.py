"""An Elasticsearch sink with documents that a rehearsal makes invalid."""

from msgspec import structs

from rehearsals.file import REASON
from rehearsals.watch import RehearsalWatch
from runtime.settings import Settings
from schemas.events import FailedRecord
from sinks.elasticsearch import BulkItem, ElasticsearchSink, refusal


class RehearsedElasticsearchSink(ElasticsearchSink):
    """Refuses the documents that a rehearsal strikes, and indexes all others."""

    def __init__(self, settings: Settings, watch: RehearsalWatch) -> None:
        super().__init__(settings)
        self._watch = watch

    async def index(self, batch: list[BulkItem]) -> list[FailedRecord]:
        spared, refused = [], []
        for item in batch:
            origin = item.change.origin
            # A row that the API has written came from no source.
            if origin and (rehearsal := self._watch.strikes_record(None, origin.partition, origin.offset)):
                refused.append(structs.replace(refusal(item, f"rehearsal {rehearsal}"), reason=REASON))
            else:
                spared.append(item)
        return refused + await super().index(spared)
