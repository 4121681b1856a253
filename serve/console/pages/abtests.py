"""A/B tests, a part of the page of experiments: how one is, what it says, and its changes."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from starlette.responses import Response

from data.errors import first_fault
from rl.evaluation.abtests.specification import ReadSpec
from serve.abtests.changes import find_test, list_running, set_shares, start, stop, switch_off
from serve.abtests.errors import ABTestRefused
from serve.abtests.specification import REGISTRY, UNSEEN, ABTest, check_shares
from serve.abtests.state import ABTestState
from serve.console.experiments.candidates import Registry
from serve.console.experiments.confirmations import confirm_off, confirm_shares, confirm_start, confirm_stop
from serve.console.experiments.drafts import Draft, read_draft
from serve.console.experiments.scorecards import Scorecards
from serve.console.forms import read_form
from serve.console.pages.changing import ask, back, do, who
from serve.console.room import Room
from serve.console.work.kept import Kept
from serve.contracts.errors import ERRORS
from serve.http.edge import Allow
from serve.http.paths import KnownId

_PAGE: Final = "Experiments"
_PATH: Final = "/experiments"
_PATIENCE_S: Final = 20.0

Why = Annotated[str, Field(max_length=1_000)]


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid")
    seen: int
    """Changes of the test that the question was asked after."""
    why: Why | None = None


class _Shares(_Change):
    shares: Json[dict[str, float]]


class _Off(_Change):
    variant: str


class _Start(BaseModel):
    model_config = ConfigDict(extra="forbid")
    definition: Json[ABTest]
    why: Why | None = None


def router(room: Room, cards: Scorecards, registry: Kept[Registry]) -> APIRouter:
    """Return the routes, which are below those of the page."""
    routes, store = APIRouter(), room.store
    admins = [Depends(Allow())]
    one = f"{_PATH}/tests/{{name}}"

    @routes.get(one)
    async def page(request: Request, name: KnownId) -> Response:
        state = await do(lambda: find_test(store, name))
        found = await cards.of(name).get()
        given: dict[str, Any] = {
            "state": state,
            "found": found,
            "now": store.now(),
            "unseen": state.test.kind in UNSEEN,
        }
        return room.pages.show(request, "experiments/test.html", page=_PAGE, **given)

    @routes.get(one + "/card")
    async def card(request: Request, name: KnownId, whole: bool = False) -> Response:
        state = await do(lambda: find_test(store, name))
        found = await cards.of(name).get(_PATIENCE_S)
        return room.pages.show(request, "experiments/card.html", state=state, found=found, whole=whole)

    @routes.get(one + "/shares", dependencies=admins)
    async def ask_shares(request: Request, name: KnownId) -> Response:
        state = await do(lambda: _running(store.now(), find_test(store, name)))
        shares = _read_shares(state, request.query_params)
        why = request.query_params.get("why", "")[:1_000]
        return ask(room, request, _PAGE, _PATH, confirm_shares(state, shares, why))

    @routes.post(one + "/shares", dependencies=admins)
    async def change_shares(request: Request, name: KnownId) -> Response:
        form, by = await read_form(request, _Shares), who(request)
        return await change(request, name, form, lambda: set_shares(store, name, form.shares, by=by, why=form.why))

    @routes.get(one + "/off", dependencies=admins)
    async def ask_off(request: Request, name: KnownId, variant: str) -> Response:
        state = await do(lambda: _running(store.now(), find_test(store, name)))
        if variant not in state.test.variants or variant == state.test.control:
            raise ERRORS.refuse("conflict", f"{variant!r} is no variant of {name} beside its control", "variant")
        return ask(room, request, _PAGE, _PATH, confirm_off(state, variant, None))

    @routes.post(one + "/off", dependencies=admins)
    async def change_off(request: Request, name: KnownId) -> Response:
        form, by = await read_form(request, _Off), who(request)
        return await change(request, name, form, lambda: switch_off(store, name, form.variant, by=by, why=form.why))

    @routes.get(one + "/stop", dependencies=admins)
    async def ask_stop(request: Request, name: KnownId) -> Response:
        state = await do(lambda: _running(store.now(), find_test(store, name)))
        return ask(room, request, _PAGE, _PATH, confirm_stop(state))

    @routes.post(one + "/stop", dependencies=admins)
    async def change_stop(request: Request, name: KnownId) -> Response:
        form, by = await read_form(request, _Change), who(request)
        return await change(request, name, form, lambda: stop(store, name, by=by, why=form.why))

    async def change(request: Request, name: str, form: _Change, make: Callable[[], ABTestState]) -> Response:
        def checked() -> ABTestState:
            if len((state := find_test(store, name)).history) != form.seen:
                last = state.history[-1]
                raise ABTestRefused(
                    f"{last.by} has changed {name} since ({last.action}): look at it as it is now, then decide again"
                )
            return make()

        await do(checked)
        cards.of(name).expire()
        return back(request, f"{_PATH}/tests/{name}")

    @routes.get(_PATH + "/start", dependencies=admins)
    async def draft(request: Request) -> Response:
        """Show the form of a new test: empty, or with what is wrong in it; a right one is asked about."""
        given = dict(request.query_params)
        sent = Draft.model_validate({name: text[:2_000] for name, text in given.items() if name in Draft.model_fields})
        problem = None
        if given:
            try:
                test = read_draft(sent)
                return ask(room, request, _PAGE, _PATH, confirm_start(test, sent.why))
            except ValueError as error:
                problem = first_fault(error) if isinstance(error, ValidationError) else str(error)
        objectives, policies = await _choices(room, registry)
        shown: dict[str, Any] = {"draft": sent, "problem": problem, "objectives": objectives, "policies": policies}
        taken = [one.test.name for one in await asyncio.to_thread(list_running, store)]
        defaults = ReadSpec()
        return room.pages.show(request, "experiments/start.html", page=_PAGE, taken=taken, defaults=defaults, **shown)

    @routes.post(_PATH + "/tests", dependencies=admins)
    async def begin(request: Request) -> Response:
        form, by = await read_form(request, _Start), who(request)
        await do(lambda: start(store, form.definition, by=by, why=form.why))
        return back(request, f"{_PATH}/tests/{form.definition.name}")

    return routes


def _running(now: datetime, state: ABTestState) -> ABTestState:
    if state.is_over(now):
        raise ABTestRefused(f"test {state.test.name!r} is over since {state.ended_at}: start another one")
    return state


def _read_shares(state: ABTestState, given: Mapping[str, str]) -> dict[str, float]:
    """Return the shares of a form, whose fields are `share.VARIANT` in percent.

    Raises:
        Refused: one is no number, missing, or they are no shares of the test's variants.
    """
    shares = dict[str, float]()
    for name in state.shares:
        text = given.get(f"share.{name}", "")
        try:
            shares[name] = round(float(text.replace(",", ".")) / 100, 9)
        except ValueError:
            raise ERRORS.refuse("invalid_request", f"expected percent, such as 12.5, got {text!r}", name) from None
    try:
        check_shares(state.test, shares)
    except ValueError as error:
        raise ERRORS.refuse("invalid_request", str(error)) from None
    return shares


async def _choices(room: Room, registry: Kept[Registry]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the objectives that are served, and the policies that a variant can be, each with what it is called."""
    served = [one for one in await room.desk.policies() if one.loop == "v1" and "." not in one.name]
    objectives = sorted({one.objective for one in served}, key=lambda name: (name != "default", name))
    policies = [(name, f"{name}, as configured") for name in dict.fromkeys(one.name for one in served)]
    found = await registry.get(_PATIENCE_S)
    for candidate in found.value.candidates if found is not None and found.value is not None else ():
        version = candidate.version
        aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
        policies.append((f"{REGISTRY}{version.number}", f"version {version.number}: {version.policy}{aliases}"))
    return [(name, name) for name in objectives], policies
