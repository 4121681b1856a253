"""What clients report over HTTP: feedback to decisions, and rows of input nodes."""

from typing import Annotated

from fastapi import APIRouter, Body

from serve.contracts.reports import EventsRequest, EventsResponse, FeedbackBody, FeedbackResponse
from serve.decisions.retries import conflict
from serve.decisions.service import Service


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes."""

    @routes.post("/feedback")
    async def feedback(request: Annotated[FeedbackBody, Body()]) -> FeedbackResponse:
        """Report what happened to decisions, one report or a list; a report sent twice counts once.

        Another report with the id of a known one is a 409 `conflict`, or in a list has that status.
        """
        if isinstance(request, list):
            return await service.feedback(request)
        response = await service.feedback([request])
        if differs := response.results[0].differs:
            raise conflict("feedback_id", differs)
        return response

    @routes.post("/events")
    async def events(request: EventsRequest) -> EventsResponse:
        """Send rows of an input node; each is stored or rejected on its own."""
        return await service.events(request)
