"""What the console asks of a replica of the recommender, and how: it decides and learns there, as for every client.

The console runs in processes of its own. A replica answers it with a value or with a failure, which is raised again
where it was asked: exceptions lose what they carry on their way between processes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from data.schema import LOOP_V1, Decision
from serve.api.v1.decisions import describe
from serve.contracts.decisions import LoggedDecision, RecommendRequest, RecommendResponse
from serve.contracts.errors import ERRORS, Failure, Refused
from serve.contracts.explanations import DecisionExplanation
from serve.contracts.learning import Health, LearningResponse, ServedPolicy
from serve.contracts.reports import FeedbackRequest, FeedbackResponse
from serve.decisions.customers import Customer, list_customers, segment_of
from serve.decisions.recommender import Recommender
from serve.decisions.retries import conflict
from serve.decisions.service import Service
from serve.explanations.answer import respond
from serve.explanations.boards import ItemEstimate, StateTable
from serve.explanations.estimates import Estimate, estimate
from serve.explanations.outlook import Outlook, Outlooks
from serve.explanations.service import Explanations
from serve.explanations.views import see
from serve.http.answers import HANDLED, to_failure

_PATIENCE_S: Final = 15.0
_LOOK_S: Final = 0.02

_TOP: Final = 8
"""Features that are listed of an item."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A decision with what a page shows beside it: all of it by the version that decided."""

    answer: RecommendResponse
    explanation: DecisionExplanation
    estimates: Mapping[str, Estimate]
    """Of all candidates."""
    segment: str | None
    """Of the user, where a policy knows it."""
    features: Mapping[str, Mapping[str, Any]]
    """Of the catalogue, by item of the slate."""
    categories: Mapping[str, tuple[str, ...]]


class Desk(Protocol):
    """All methods raise Refused, also where no replica answers."""

    async def show(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> Shown:
        """Decide, as for `/v1/recommend`, once the feedback up to a log position is learned, or the time is over."""
        ...

    async def customers(self, contains: str, segment: str | None, limit: int) -> list[Customer]:
        """Return customers that the policies know, by a part of their id and by segment."""
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

    async def health(self) -> Health:
        """Say what does not work, as `/healthz` does."""
        ...

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """Return a decision as it is in the log, and as `/v1/decisions` shows it, with what it earned."""
        ...

    async def explain(self, decision_id: str) -> DecisionExplanation:
        """Explain a decision by the version that made it, as `/v1/decisions/{id}/explanation` does."""
        ...

    async def outlooks(self) -> list[Outlook]:
        """Say where something is learned, the default objective of the loop v1 first."""
        ...

    async def estimates(self, loop: str, objective: str, policy: str, items: Sequence[str]) -> dict[str, ItemEstimate]:
        """Return what a policy expects of items, see `serve.explanations.outlook`; {}: nothing can be said."""
        ...

    async def state_table(self, loop: str, objective: str, policy: str, state: int | None) -> StateTable:
        """Return what a tabular policy knows in a state, the one that it knows most of where none is given."""
        ...


class ServiceDesk:
    """A desk in the recommender's own process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._explanations = Explanations(service.served, service.store, service.config.settings)
        self._outlooks = Outlooks(service)

    async def show(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> Shown:
        """See `Desk`."""
        await self._wait(request, after, within_s)
        made = list[tuple[DecisionExplanation, dict[str, Estimate], str | None]]()

        def look(recommender: Recommender, decision: Decision) -> None:
            explained = respond(decision, see(recommender, decision), "served", _TOP)
            segment = segment_of(recommender, decision.user_id) if decision.user_id else None
            made.append((explained, estimate(recommender, decision), segment))

        answer = (await self._service.recommend([request], witness=look))[0]
        if isinstance(answer, list) or not made:
            raise conflict("decision_id", answer if isinstance(answer, list) else [])
        explained, estimates, segment = made[0]
        catalogue = self._service.items.catalogue
        items = [slot["item_id"] for slot in answer["items"]]
        return Shown(
            answer=answer,
            explanation=explained,
            estimates=estimates,
            segment=segment,
            features={item: dict(catalogue.features_of(item)) for item in items},
            categories={item: catalogue.categories_of(item) for item in items},
        )

    async def customers(self, contains: str, segment: str | None, limit: int) -> list[Customer]:
        """See `Desk`."""
        recommender = self._service.served.at(LOOP_V1)
        return await asyncio.to_thread(list_customers, recommender, contains, segment, limit)

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """See `Desk`."""
        return await self._service.feedback(reports)

    async def policies(self) -> list[ServedPolicy]:
        """See `Desk`."""
        return self._service.policies()

    async def learning(self) -> LearningResponse:
        """See `Desk`."""
        return await self._service.learning.report()

    async def health(self) -> Health:
        """See `Desk`."""
        return self._service.health()

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """See `Desk`."""
        return await asyncio.to_thread(self._describe, decision_id)

    async def outlooks(self) -> list[Outlook]:
        """See `Desk`."""
        return await self._outlooks.list_all()

    async def estimates(self, loop: str, objective: str, policy: str, items: Sequence[str]) -> dict[str, ItemEstimate]:
        """See `Desk`."""
        return await self._outlooks.estimate(loop, objective, policy, items)

    async def state_table(self, loop: str, objective: str, policy: str, state: int | None) -> StateTable:
        """See `Desk`."""
        return await self._outlooks.table(loop, objective, policy, state)

    async def answer(self, method: str, *arguments: Any) -> Any:
        """Return what a method of a desk returns, or the failure that it raises."""
        try:
            return await getattr(self, method)(*arguments)
        except HANDLED as error:
            return to_failure(error)

    def _describe(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        decision, feedback = self._service.read_decision(decision_id)
        return decision, describe(decision, feedback, self._service.reward(decision))

    async def explain(self, decision_id: str) -> DecisionExplanation:
        """See `Desk`."""
        return await self._explanations.explain(decision_id, _TOP)

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

    async def show(self, request: RecommendRequest, after: int = 0, within_s: float = 0.0) -> Shown:
        """See `Desk`."""
        return cast(Shown, await self._ask("show", request, after, within_s))

    async def customers(self, contains: str, segment: str | None, limit: int) -> list[Customer]:
        """See `Desk`."""
        return cast(list[Customer], await self._ask("customers", contains, segment, limit))

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """See `Desk`."""
        return cast(FeedbackResponse, await self._ask("feedback", reports))

    async def policies(self) -> list[ServedPolicy]:
        """See `Desk`."""
        return cast(list[ServedPolicy], await self._ask("policies"))

    async def learning(self) -> LearningResponse:
        """See `Desk`."""
        return cast(LearningResponse, await self._ask("learning"))

    async def health(self) -> Health:
        """See `Desk`."""
        return cast(Health, await self._ask("health"))

    async def decision(self, decision_id: str) -> tuple[Decision, LoggedDecision]:
        """See `Desk`."""
        return cast(tuple[Decision, LoggedDecision], await self._ask("decision", decision_id))

    async def explain(self, decision_id: str) -> DecisionExplanation:
        """See `Desk`."""
        return cast(DecisionExplanation, await self._ask("explain", decision_id))

    async def outlooks(self) -> list[Outlook]:
        """See `Desk`."""
        return cast(list[Outlook], await self._ask("outlooks"))

    async def estimates(self, loop: str, objective: str, policy: str, items: Sequence[str]) -> dict[str, ItemEstimate]:
        """See `Desk`."""
        answer = await self._ask("estimates", loop, objective, policy, list(items))
        return cast(dict[str, ItemEstimate], answer)

    async def state_table(self, loop: str, objective: str, policy: str, state: int | None) -> StateTable:
        """See `Desk`."""
        return cast(StateTable, await self._ask("state_table", loop, objective, policy, state))

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
