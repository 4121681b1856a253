"""Configuration, model and log of the Personalizer loop."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serve.api.personalizer.configuration.values import PolicySettings, ServiceConfiguration
from serve.api.personalizer.errors import ERRORS
from serve.api.personalizer.routes.dialects import AnyDialect, Dialect
from serve.api.personalizer.service import Personalizer

_FILE = "application/octet-stream"
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {_FILE: {"schema": {"type": "string", "format": "binary"}}}}
}
_TAKES_BINARY = {"requestBody": {"required": True, "content": _BINARY[200]["content"]}}


def add_reading(routes: APIRouter, personalizer: Personalizer) -> None:
    """Add the routes that change nothing."""

    @routes.get("/configurations/service")
    async def service(dialect: AnyDialect) -> dict[str, Any]:
        """Return the service configuration."""
        return await personalizer.service_configuration(**_shown_in(dialect))

    @routes.get("/configurations/policy")
    async def policy(_: AnyDialect) -> PolicySettings:
        """Return the learning policy."""
        return await personalizer.policy()

    @routes.get("/model/properties")
    async def model_properties(_: AnyDialect) -> dict[str, str]:
        """Return since when there is the model, and when it last learned."""
        return await personalizer.model_properties()

    @routes.get("/logs/properties")
    async def log_properties(_: AnyDialect) -> dict[str, Any]:
        """Return from when to when the log is."""
        return await personalizer.log_properties()


def add_changing(routes: APIRouter, personalizer: Personalizer) -> None:
    """Add the routes for administrators."""

    @routes.put("/configurations/service")
    async def configure(body: ServiceConfiguration, dialect: AnyDialect) -> dict[str, Any]:
        """Configure the service; nothing that was learned is lost."""
        return await personalizer.configure(body, **_shown_in(dialect))

    @routes.put("/configurations/policy")
    async def set_policy(body: PolicySettings, _: AnyDialect) -> PolicySettings:
        """Set the learning policy; it learns the log anew."""
        return await personalizer.set_policy(body)

    @routes.delete("/configurations/policy")
    async def reset_policy(_: AnyDialect) -> PolicySettings:
        """Set the default learning policy."""
        return await personalizer.reset_policy()

    @routes.get("/model", response_class=Response, responses=_BINARY)
    async def export_model(_: AnyDialect, signed: Annotated[bool, Query()] = False) -> Response:
        """Return the model as a file; a signed one can be imported."""
        return Response(await personalizer.export_model(signed=signed), media_type=_FILE)

    @routes.put("/model", status_code=204, openapi_extra=_TAKES_BINARY)
    async def import_model(request: Request, _: AnyDialect) -> None:
        """Go on with a model that was exported, signed, by this service."""
        await personalizer.import_model(await request.body())

    @routes.delete("/model", status_code=204)
    async def reset_model(_: AnyDialect) -> None:
        """Forget what was learned, and begin anew from now on."""
        await personalizer.reset_model()

    @routes.delete("/logs", status_code=204)
    async def delete_logs(_: AnyDialect) -> None:
        """Delete the log; the model keeps what it has learned from it."""
        await personalizer.delete_logs()


def add_closed(routes: APIRouter) -> None:
    """Answer documented operations that this service does not have with documented errors."""

    @routes.post("/logs/interactions")
    @routes.post("/logs/observations")
    async def record(_: AnyDialect) -> Response:
        """Refuse: clients that choose by themselves are not served."""
        raise ERRORS.refuse("ResourceNotFound", "Logs of clients that choose by themselves are not taken: use rank.")


def _shown_in(dialect: Dialect) -> dict[str, bool]:
    return {"time_spans": dialect.time_spans, "metrics": dialect is Dialect.LATEST}
