"""Commits as spans, and what the learner is told of the requests that they are for."""

from collections.abc import Sequence

from opentelemetry.trace import Tracer, get_current_span

from data.log.insertion.appender import Stored
from data.log.writer.commit import Writer
from data.schema import AnyRecord, Decision, Feedback
from serve.traces.contexts import write_parent
from serve.traces.outbox import Outbox
from serve.traces.spans import inner


class TracedWriter:
    """Commits as the writer does that it is put around; see `data.log.writer.commit.Writer`."""

    def __init__(self, tracer: Tracer, writer: Writer, outbox: Outbox) -> None:
        self._tracer, self._writer, self._outbox = tracer, writer, outbox

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Commit; a span where a request is traced, which work that nobody waits for is not."""
        request = get_current_span()
        if not request.is_recording():
            return await self._writer.commit(records)
        parent = write_parent(request.get_span_context())
        for record in records:
            if isinstance(record, Decision | Feedback):
                self._outbox.put(record.decision_id, parent)
        with inner(self._tracer, "commit", {"raycommend.records": len(records)}):
            return await self._writer.commit(records)
