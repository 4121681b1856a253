"""What the service of the Personalizer API is given to call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from data.log.insertion.appender import Stored
from data.schema import AnyRecord, Decision, Feedback
from serve.api.personalizer.configuration.values import Configuration
from serve.decisions.recommender import Recommender


class Commit(Protocol):
    """Logs records and returns what the log then holds for each; see `serve.decisions.service.Service.commit`."""

    def __call__(self, records: Sequence[AnyRecord], /) -> Awaitable[list[Stored]]:
        """Commit."""
        ...


Look: TypeAlias = Callable[[Recommender, Decision], None]
"""Looks at a decision, and at the state that it was made in."""
Report: TypeAlias = Callable[[Sequence[Feedback]], Awaitable[object]]
"""Logs feedback, and counts what became of it; see `serve.decisions.service.Service.report`."""
Set: TypeAlias = Callable[[Configuration], Sequence[tuple[str, Any]]]
"""Says which settings to change, given what counts."""
