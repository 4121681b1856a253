"""Learning: what policies earn and how that changes, what they think of items, and the trainings behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from data.features.rfm import SEGMENTS
from data.schema import ORACLE
from rl.evaluation.board.curves import Curves, draw_curves
from rl.evaluation.board.items import Board, read_board
from rl.evaluation.board.tally import Arm, Change
from serve.console.forms import parse
from serve.console.learning import drawing
from serve.console.learning.changing import answer, fields
from serve.console.learning.following import Tallies
from serve.console.learning.listing import Listing, find_items, list_rows
from serve.console.learning.states import DAYS, MONTHS, Moment, moment_of, number_of
from serve.console.learning.tallying import PlaceTally, Progress
from serve.console.pages import training
from serve.console.rendering import Page
from serve.console.room import Room
from serve.contracts.errors import ERRORS
from serve.contracts.learning import Fold, LearningResponse
from serve.explanations.outlook import MOST_ITEMS, Outlook
from serve.http.edge import Allow

PAGE: Final = Page("Learning", "/learning", "trending-up")
_CHANGES: Final = 20


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: str = Field(default="", max_length=300)
    by: Literal["policy", "variant"] = "policy"


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: str = Field(default="", max_length=300)
    policy: str = Field(default="", max_length=200)
    state: int | None = Field(default=None, ge=0, le=100_000)
    segment: str | None = Field(default=None, max_length=20)
    month: int | None = Field(default=None, ge=1, le=12)
    half: int | None = Field(default=None, ge=1, le=2)
    weekday: int | None = Field(default=None, ge=0, le=6)


@dataclass(frozen=True)
class _Looked:
    """What was read of a tally under its lock."""

    curves: Curves
    changes: tuple[Change, ...]
    variants: bool
    """There are decisions of A/B tests."""


def router(room: Room) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PAGE.path, dependencies=[Depends(Allow("reader"))])
    tallies = Tallies(room.store, timedelta(days=room.config.history_days))

    @routes.get("")
    async def reward(request: Request) -> Response:
        asked = parse(_Asked, fields(request))
        outlooks, outlook = await _outlook(room, asked.place)
        looked, progress = await tallies.read(_place(outlook), outlook.spec, lambda tally: _look(tally, asked.by))
        learning = await room.desk.learning()
        given = _describe(looked, progress, outlook) | {
            "asked": asked,
            "outlook": outlook,
            "outlooks": outlooks,
            "fold": _fold(learning, outlook),
            "learner": learning.learner,
            "tab": "reward",
        }
        return answer(room, request, PAGE.name, "learning.html", "learning_reward.html", **given)

    @routes.get("/items")
    async def items(request: Request) -> Response:
        asked = parse(Listing, fields(request))
        outlooks, outlook = await _outlook(room, asked.place)

        def look(tally: PlaceTally) -> tuple[Board, list[str]]:
            names = list(dict.fromkeys(arm.policy for arm in tally.tally.arms))
            return read_board(tally.tally, tally.tally.numbers([asked.policy] if asked.policy else None)), names

        looked, progress = await tallies.read(_place(outlook), outlook.spec, look)
        board, names = looked if looked is not None else (None, [])
        served = [one.name for one in outlook.policies]
        judge = asked.policy if asked.policy in served else next((n for n in names if n in served), None)
        rows = None
        if board is not None:
            found = find_items(board, asked.search)
            wanted = [board.items[at] for at in found[:MOST_ITEMS]] if asked.sort == "estimate" else []
            estimates = await room.desk.estimates(*_place(outlook), judge, wanted) if judge and wanted else {}
            rows = list_rows(board, found, asked, estimates, MOST_ITEMS)
            if judge and not wanted and rows.rows:
                shown = [row.item for row in rows.rows]
                rows = list_rows(
                    board, found, asked, await room.desk.estimates(*_place(outlook), judge, shown), MOST_ITEMS
                )
        given = {
            "asked": asked,
            "outlook": outlook,
            "outlooks": outlooks,
            "rows": rows,
            "progress": progress,
            "names": names,
            "judge": judge,
            "tab": "items",
            "most": MOST_ITEMS,
        }
        return answer(room, request, PAGE.name, "learning_items.html", "learning_board.html", **given)

    @routes.get("/states")
    async def states(request: Request) -> Response:
        asked = parse(_State, fields(request))
        outlooks, outlook = await _outlook(room, asked.place)
        policy = asked.policy or next(iter(outlook.tables), "")
        table, number = None, asked.state
        if asked.segment is not None:
            number = number_of(Moment(asked.segment, asked.month or 1, asked.half or 1, asked.weekday or 0))
        if policy:
            table = await room.desk.state_table(*_place(outlook), policy, number)
        given = {
            "asked": asked,
            "outlook": outlook,
            "outlooks": outlooks,
            "table": table,
            "moment": moment_of(table.state) if table else None,
            "segments": SEGMENTS,
            "months": MONTHS,
            "days": DAYS,
            "tab": "states",
            "axis": drawing.find_axis([row.value for row in table.rows] if table else []),
        }
        return answer(room, request, PAGE.name, "learning_states.html", "learning_table.html", **given)

    routes.include_router(training.router(room, PAGE.name))
    return routes


def _place(outlook: Outlook) -> tuple[str, str]:
    return outlook.loop, outlook.objective


async def _outlook(room: Room, wanted: str) -> tuple[list[Outlook], Outlook]:
    """Return the places where something is learned, and the one that is asked about.

    Raises:
        Refused: not_ready, nothing is served; not_found, not there.
    """
    outlooks = await room.desk.outlooks()
    if not outlooks:
        raise ERRORS.refuse("not_ready", "no policy is served yet")
    for outlook in outlooks:
        if wanted in ("", outlook.name):
            return outlooks, outlook
    raise ERRORS.refuse("not_found", f"nothing is learned at {wanted!r}", "place")


def _look(tally: PlaceTally, by: str) -> _Looked:
    group: Callable[[Arm], str | None] = (lambda arm: arm.policy) if by == "policy" else _variant
    variants = any(arm.variant is not None for arm in tally.tally.arms)
    return _Looked(draw_curves(tally.tally, group), tuple(tally.tally.changes), variants)


def _variant(arm: Arm) -> str | None:
    return None if arm.variant is None else f"{arm.abtest}: {arm.variant}"


def _describe(looked: _Looked | None, progress: Progress, outlook: Outlook) -> dict[str, Any]:
    given: dict[str, Any] = {"curves": None, "progress": progress, "oracle": ORACLE, "wait_s": outlook.spec.wait_s}
    if looked is None:
        return given
    curves = looked.curves
    marks, rows = drawing.place_marks(looked.changes, curves)
    decisions = sum(curve.decisions for curve in curves.curves)
    earned = sum(float(curve.total.value[0]) * curve.decisions for curve in curves.curves)
    seen = sum(curve.exploration_total * curve.decisions for curve in curves.curves)
    return given | {
        "curves": curves,
        "variants": looked.variants,
        "decisions": decisions,
        "mean": earned / decisions if decisions else None,
        "exploration": seen / decisions if decisions else None,
        "reward_chart": drawing.reward_chart(curves),
        "regret_chart": drawing.regret_chart(curves),
        "exploration_chart": drawing.exploration_chart(curves),
        "marks": marks[-10 * _CHANGES :],
        "mark_rows": rows,
        "changes": looked.changes[: -_CHANGES - 1 : -1],
        "moment": drawing.moment,
        "interval_ends": drawing.find_axis(
            [float(end) for curve in curves.curves for end in (curve.total.low[0], curve.total.high[0])]
        ),
    }


def _fold(learning: LearningResponse, outlook: Outlook) -> Fold | None:
    place = _place(outlook)
    return next((fold for fold in learning.folds if (fold.loop, fold.objective) == place), None)
