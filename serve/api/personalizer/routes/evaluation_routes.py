"""Offline evaluations and feature importances, in the dialects that have them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from data.fields import Id
from serve.api.personalizer.configuration.values import Time
from serve.api.personalizer.errors import ERRORS
from serve.api.personalizer.evaluations.contracts import (
    ApplyRequest,
    EvaluationContract,
    ImportanceContract,
)
from serve.api.personalizer.evaluations.responses import Window, evaluation, importance, old_evaluation, summary_of
from serve.api.personalizer.evaluations.service import Evaluations
from serve.api.personalizer.routes.dialects import AnyDialect, Dialect

Key = Annotated[Id, Path()]
Skip = Annotated[int, Query(ge=0)]
Top = Annotated[int | None, Query(ge=0)]
Minutes = Annotated[Literal["5", "60", "360", "720", "1440"] | None, Query(alias="intervalInMinutes")]


def add_reading(routes: APIRouter, evaluations: Evaluations) -> None:
    """Add the routes that change nothing."""

    @routes.get("/evaluations")
    async def list_evaluations(
        dialect: AnyDialect,
        skip: Skip = 0,
        top: Top = None,
        wanted: Annotated[str | None, Query(alias="filter", max_length=200)] = None,
    ) -> Any:
        """List the evaluations, the newest first."""
        found = await evaluations.list_all()
        if dialect is not Dialect.LATEST:
            return [old_evaluation(one, dialect.time_spans) for one in found]
        if kind := _kind(wanted):
            found = [one for one in found if one.kind == kind]
        return _page([summary_of(one) for one in found], skip, top)

    @routes.get("/evaluations/{evaluation_id}")
    async def get_evaluation(
        evaluation_id: Key,
        dialect: AnyDialect,
        start: Annotated[Time | None, Query(alias="startTime")] = None,
        end: Annotated[Time | None, Query(alias="endTime")] = None,
        minutes: Minutes = None,
        window: Annotated[Window, Query()] = "Expanding",
    ) -> dict[str, Any]:
        """Return an evaluation with what came of it."""
        found = await evaluations.get(evaluation_id)
        if dialect is not Dialect.LATEST:
            return old_evaluation(found, dialect.time_spans)
        first, last = start or found.asked.start_time, end or found.asked.end_time
        return evaluation(found, first, last, int(minutes or 5), window)

    @routes.get("/featureImportances")
    async def list_importances(dialect: AnyDialect, skip: Skip = 0, top: Top = None) -> Any:
        """List the feature importances, the newest first."""
        _check_newest(dialect)
        return _page([summary_of(one) for one in await evaluations.list_importances()], skip, top)

    @routes.get("/featureImportances/{importance_id}")
    async def get_importance(importance_id: Key, dialect: AnyDialect) -> dict[str, Any]:
        """Return feature importances."""
        _check_newest(dialect)
        return importance(await evaluations.get_importance(importance_id))


def add_changing(routes: APIRouter, evaluations: Evaluations) -> None:
    """Add the routes for administrators."""

    @routes.post("/evaluations", status_code=201)
    async def post_evaluation(body: EvaluationContract, request: Request, dialect: AnyDialect) -> Response:
        """Begin an evaluation: in the older dialects."""
        if dialect is Dialect.LATEST:
            raise ERRORS.refuse("ResourceNotFound", "An evaluation has an id: PUT /evaluations/{evaluationId}.")
        made = await evaluations.create(body)
        location = f"{request.url.path.rstrip('/')}/{made.id}"
        return JSONResponse(old_evaluation(made, dialect.time_spans), 201, {"Location": location})

    @routes.put("/evaluations/{evaluation_id}")
    async def put_evaluation(evaluation_id: Key, body: EvaluationContract, dialect: AnyDialect) -> dict[str, Any]:
        """Begin an evaluation: in the newest dialect."""
        _check_newest(dialect)
        return summary_of(await evaluations.create(body, evaluation_id))

    @routes.delete("/evaluations/{evaluation_id}", status_code=204)
    async def delete_evaluation(evaluation_id: Key, _: AnyDialect) -> None:
        """Delete an evaluation."""
        await evaluations.delete(evaluation_id)

    @routes.post("/configurations/applyFromEvaluation", status_code=204)
    async def apply(body: ApplyRequest, _: AnyDialect) -> None:
        """Let a policy of an evaluation answer, if the gate lets it through."""
        await evaluations.apply(body)

    @routes.put("/featureImportances/{importance_id}")
    async def put_importance(importance_id: Key, body: ImportanceContract, dialect: AnyDialect) -> dict[str, Any]:
        """Begin to measure feature importances."""
        _check_newest(dialect)
        return summary_of(await evaluations.create_importance(body, importance_id))

    @routes.delete("/featureImportances/{importance_id}", status_code=204)
    async def delete_importance(importance_id: Key, dialect: AnyDialect) -> None:
        """Delete feature importances."""
        _check_newest(dialect)
        await evaluations.delete_importance(importance_id)


def _check_newest(dialect: Dialect) -> None:
    if dialect is not Dialect.LATEST:
        raise ERRORS.refuse("ResourceNotFound", f"{dialect.value} has no such operation: 2022-09-01-preview has.")


def _kind(expression: str | None) -> str | None:
    """Return the type of evaluation that a filter asks for, written metadata=evaluationType eq 'Manual'."""
    if expression is None:
        return None
    found = next((kind for kind in ("Manual", "Auto") if f"evaluationType eq '{kind}'" in expression), None)
    if found is None:
        raise ERRORS.refuse("BadRequest", "A filter is written evaluationType eq 'Manual', or 'Auto'.", "filter")
    return found


def _page(rows: list[dict[str, Any]], skip: int, top: int | None) -> dict[str, Any]:
    shown = rows[skip:] if top is None else rows[skip : skip + top]
    return {"value": shown}
