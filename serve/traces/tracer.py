"""What a process makes spans by, and puts around its parts: requests, recommenders, the writer, what folds learn."""

from opentelemetry.sdk.trace import TracerProvider
from starlette.types import ASGIApp

from data.json_lines import Redact
from data.log.writer.commit import Writer
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from serve.traces.learned import LearnedSpans
from serve.traces.outbox import Outbox
from serve.traces.recommender import TracedRecommender
from serve.traces.requests import TracedRequests
from serve.traces.writer import TracedWriter


class Tracer:
    """Makes the spans of one process."""

    def __init__(self, provider: TracerProvider, redact: Redact) -> None:
        self._provider, self._redact = provider, redact
        self._tracer = provider.get_tracer("raycommend")
        self.outbox = Outbox()
        """What the learner is to be told: which requests that are traced were for which decisions."""

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests are spans."""
        return TracedRequests(app, self._tracer, self._redact)

    def recommender(self, router: Router, loop: str, objective: str) -> Recommender:
        """Return a recommender whose steps are spans."""
        return TracedRecommender(self._tracer, router, loop, objective)

    def writer(self, writer: Writer) -> Writer:
        """Return a writer whose commits are spans."""
        return TracedWriter(self._tracer, writer, self.outbox)

    def learned(self) -> LearnedSpans:
        """Return what makes spans of what folds learn."""
        return LearnedSpans(self._tracer, self._redact)

    def flush(self) -> None:
        """Send what there is. Blocks."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what there is, and make no more. Blocks."""
        self._provider.shutdown()
