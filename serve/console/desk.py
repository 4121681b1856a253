"""What the console asks of a replica of the recommender, and how: it decides and learns there, as for every client.

The console runs in processes of its own. A replica answers it with a value or with a failure, which is raised again
where it was asked: exceptions lose what they carry on their way between processes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from data.schema import LOOP_V1, Decision
from serve.api.v1.decisions import describe
from serve.contracts.decisions import LoggedDecision, RecommendRequest, RecommendResponse
from serve.contracts.errors import ERRORS, Failure, Refused
from serve.contracts.learning import LearningResponse, ServedPolicy
from serve.contracts.reports import FeedbackRequest, FeedbackResponse
from serve.decisions.retries import conflict
from serve.decisions.service import Service
from serve.http.answers import HANDLED, to_failure

_PATIENCE_S: Final = 15.0
_LOOK_S: Final = 0.02


class Desk(Protocol):
    """All methods raise Refused, also where no replica answers."""

    async def recommend(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> RecommendResponse:
        """Decide, as for `/v1/recommend`, once the feedback up to a log position is learned, or the time is over."""
        ...

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """Log feedback, as `/v1/feedback` does."""
        ...

    async def policies(self) -> list[ServedPolicy]:
        """Say what is served."""
        ...

    async def learning(self) -> LearningResponse:
        """Say how learning goes, as `/v1/learning` does."""
        ...

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """Return a decision as it is in the log, and as `/v1/decisions` shows it, with what it earned."""
        ...


class ServiceDesk:
    """A desk in the recommender's own process."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def recommend(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> RecommendResponse:
        """See `Desk`."""
        await self._wait(request, after, within_s)
        answer = (await self._service.recommend([request]))[0]
        if isinstance(answer, list):
            raise conflict("decision_id", answer)
        return answer

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """See `Desk`."""
        return await self._service.feedback(reports)

    async def policies(self) -> list[ServedPolicy]:
        """See `Desk`."""
        return self._service.policies()

    async def learning(self) -> LearningResponse:
        """See `Desk`."""
        return await self._service.learning.report()

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """See `Desk`."""
        return await asyncio.to_thread(self._describe, decision_id)

    async def answer(self, method: str, *arguments: Any) -> Any:
        """Return what a method of a desk returns, or the failure that it raises."""
        try:
            return await getattr(self, method)(*arguments)
        except HANDLED as error:
            return to_failure(error)

    def _describe(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        decision, feedback = self._service.read_decision(decision_id)
        return decision, describe(decision, feedback, self._service.reward(decision))

    async def _wait(self, request: RecommendRequest, after: int, within_s: float) -> None:
        """Wait until this replica has learned; another may have before it, or after."""
        until = asyncio.get_running_loop().time() + within_s
        recommender = self._service.served.at(LOOP_V1, request.objective)
        while recommender.learned_through < after and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_LOOK_S)


class RemoteDesk:
    """The desk of some replica of an application."""

    def __init__(self, connect: "Callable[[], DeploymentHandle[Any]]") -> None:
        """Say how a handle of the recommender is got; it raises RayServeException while there is none."""
        self._connect = connect
        self._handle: DeploymentHandle[Any] | None = None

    async def recommend(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> RecommendResponse:
        """See `Desk`."""
        return cast(RecommendResponse, await self._ask("recommend", request, after, within_s))

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """See `Desk`."""
        return cast(FeedbackResponse, await self._ask("feedback", reports))

    async def policies(self) -> list[ServedPolicy]:
        """See `Desk`."""
        return cast(list[ServedPolicy], await self._ask("policies"))

    async def learning(self) -> LearningResponse:
        """See `Desk`."""
        return cast(LearningResponse, await self._ask("learning"))

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """See `Desk`."""
        return cast(tuple[Decision, LoggedDecision], await self._ask("decision", decision_id))

    async def node(self) -> str:
        """Return the id of the machine that the replica runs on."""
        return cast(str, await self._call(lambda handle: handle.node.remote()))

    async def _ask(self, method: str, *arguments: Any) -> Any:
        answer = await self._call(lambda handle: handle.desk.remote(method, *arguments))
        if isinstance(answer, Failure):
            raise Refused(answer)
        return answer

    async def _call(self, ask: "Callable[[DeploymentHandle[Any]], Awaitable[Any]]") -> Any:
        try:
            if self._handle is None:
                self._handle = (await asyncio.to_thread(self._connect)).options(_by_reference=False)
            return await asyncio.wait_for(_awaited(ask(self._handle)), _PATIENCE_S)
        except TimeoutError:
            message = f"the recommender has not answered within {_PATIENCE_S:g} s"
            raise ERRORS.refuse("not_ready", message) from None
        except (RayError, RayServeException) as error:
            self._handle = None
            raise ERRORS.refuse(
                "not_ready", f"no replica of the recommender answers: {type(error).__name__}"
            ) from error


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer
