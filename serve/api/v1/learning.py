"""How the replica is and how learning goes."""

from fastapi import APIRouter

from serve.contracts.learning import Health, LearningResponse, Ready
from serve.decisions.service import Service


def router(service: Service) -> APIRouter:
    """Return the route of those who run the service."""
    routes = APIRouter()

    @routes.get("/learning")
    async def learning() -> LearningResponse:
        """Say how each loop learns: how far its fold has come, and which rows of the log it has set aside and why."""
        return await service.learning.report()

    return routes


def health(service: Service) -> APIRouter:
    """Return the routes that need no key."""
    routes = APIRouter(tags=["health"])

    async def healthz() -> Health:
        """Say that this replica answers, with which versions, and what does not work."""
        return service.health()

    async def readyz() -> Ready:
        """Say whether this replica may be sent traffic: every configured loop has a policy, and the log answers."""
        await service.learning.check()
        return Ready(replica=service.replica)

    routes.add_api_route("/healthz", healthz)
    routes.add_api_route("/readyz", readyz)
    return routes
