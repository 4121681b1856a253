"""Rank, reward and activate, with one action or with slots."""

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.responses import Response

from serve.api.personalizer.rank import (
    MultiSlotRankRequest,
    MultiSlotRankResponse,
    RankRequest,
    RankResponse,
)
from serve.api.personalizer.reward import (
    MultiSlotRewardRequest,
    RewardRequest,
    activation,
    rewards,
)
from serve.api.personalizer.routes.dialects import AnyDialect, WithSlots
from serve.api.personalizer.service import Personalizer


def add(routes: APIRouter, personalizer: Personalizer) -> None:
    """Add the routes."""

    @routes.post("/rank", status_code=201, response_model=RankResponse, response_model_exclude_none=True)
    async def rank(body: RankRequest, _: AnyDialect) -> Response:
        """Choose an action to show; what is answered is in the log before."""
        return _respond_created(await personalizer.rank(body))

    @routes.post("/events/{event_id:rest}/reward", status_code=204)
    async def reward(event_id: str, body: RewardRequest, _: AnyDialect) -> None:
        """Report what an event earned; a reward sent twice counts once."""
        await personalizer.report(rewards(event_id, [(None, body.value)]))

    @routes.post("/events/{event_id:rest}/activate", status_code=204)
    async def activate(event_id: str, _: AnyDialect) -> None:
        """Report that an event whose activation was deferred was shown."""
        await personalizer.report([activation(event_id)])

    @routes.post("/multislot/rank", status_code=201, response_model=MultiSlotRankResponse)
    async def rank_slots(body: MultiSlotRankRequest, _: WithSlots) -> Response:
        """Choose an action for each slot, none twice; what is answered is in the log before."""
        return _respond_created(await personalizer.rank_slots(body))

    @routes.post("/multislot/events/{event_id:rest}/reward", status_code=204)
    async def reward_slots(event_id: str, body: MultiSlotRewardRequest, _: WithSlots) -> None:
        """Report what slots of an event earned; a reward sent twice counts once."""
        await personalizer.report(rewards(event_id, [(given.slot_id, given.value) for given in body.reward]))

    @routes.post("/multislot/events/{event_id:rest}/activate", status_code=204)
    async def activate_slots(event_id: str, _: WithSlots) -> None:
        """Report that an event with slots whose activation was deferred was shown."""
        await personalizer.report([activation(event_id)])


def _respond_created(answer: RankResponse | MultiSlotRankResponse) -> Response:
    # Not validated: it is made of a decision.
    return Response(to_json(answer, by_alias=True, exclude_none=True), 201, media_type="application/json")
