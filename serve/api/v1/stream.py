"""The stream of server-sent events: policies that are served, recommendations for an output node."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from serve.contracts.learning import PoliciesResponse
from serve.decisions.answer import list_items, policy_version
from serve.decisions.followers import Message
from serve.decisions.service import Service


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.get("/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def stream(
        node: Annotated[str | None, Query(max_length=256, description="an output node's id")] = None,
        last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
    ) -> StreamingResponse:
        """Follow along: event `policy` when versions change, event `recommendation` for each decision of the node.

        A client that comes again with the `Last-Event-ID` that it has seen is sent what it has missed first.
        """
        messages = service.streams.follow(node, last_event_id)
        first = await anext(messages)  # what can fail does so before the answer begins
        return StreamingResponse(_lines(service, first, messages), media_type="text/event-stream")

    return routes


async def _lines(service: Service, first: Message, messages: AsyncIterator[Message]) -> AsyncIterator[str]:
    yield _text(service, first)
    async for message in messages:
        yield _text(service, message)


def _text(service: Service, message: Message) -> str:
    """Return a message as the specification of server-sent events has it; a sign of life is a comment."""
    if message.policies is not None:
        data = PoliciesResponse(replica=service.replica, policies=message.policies).model_dump_json()
        return f"event: policy\ndata: {data}\n\n"
    if message.decision is not None:
        decision = message.decision
        data = to_json(
            {
                "decision_id": decision.decision_id,
                "items": list_items(decision),
                "policy": policy_version(decision),
            }
        ).decode()
        return f"id: {message.seq}\nevent: recommendation\ndata: {data}\n\n"
    return ": alive\n\n"
