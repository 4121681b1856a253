"""Experiments: who is the champion, who might be, what the gate and A/B tests say, and the changes of all that."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rl.gate.page import render
from rl.promotions import roll_back
from serve.abtests.changes import list_tests
from serve.console.experiments.candidates import Registry, RegistryReader
from serve.console.experiments.charts import draw_bounds, draw_looks, draw_rewards, draw_weights
from serve.console.experiments.confirmations import confirm_promotion, confirm_rollback
from serve.console.experiments.scorecards import Scorecards
from serve.console.forms import read_form
from serve.console.pages import abtests
from serve.console.pages.changing import ask, back, do, who
from serve.console.rendering import Page
from serve.console.room import Room
from serve.console.work.commands import Commands, environment_of
from serve.console.work.kept import Kept
from serve.contracts.errors import ERRORS, Refused
from serve.contracts.learning import Health
from serve.http.edge import Allow

PAGE: Final = Page("Experiments", "/experiments", "flask-conical")
_GATE: Final = "promote"
_FRESH_S: Final = 5.0
_PATIENCE_S: Final = 0.15
"""How long a page waits for what is being read, before it comes without it."""
_LONG_PATIENCE_S: Final = 20.0
"""The same where it is nothing without."""
_RUNNING: Final = 10
"""Tests that run and whose scorecards are on the page; those of others are on their own."""
_OVER: Final = 20
"""Tests that are over and are listed."""


class _Promotion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int
    champion: int
    force: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None


class _Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int


def router(room: Room) -> APIRouter:
    """Return the routes."""
    settings = room.config.settings
    commands = Commands(settings, environment_of(settings, room.config.home is not None))
    reader = RegistryReader(settings, room.config.model)
    registry, cards = Kept(reader, _FRESH_S), Scorecards(room.store)
    routes = APIRouter(dependencies=[Depends(Allow("reader"))])
    admins = [Depends(Allow())]

    @routes.get(PAGE.path)
    async def page(request: Request) -> Response:
        found, tests, gate, health = await asyncio.gather(
            registry.get(_PATIENCE_S),
            asyncio.to_thread(list_tests, room.store),
            asyncio.to_thread(commands.last, _GATE),
            _health(room),
        )
        now = room.store.now()
        running = [one for one in reversed(tests.values()) if not one.is_over(now)]
        over = [one for one in reversed(tests.values()) if one.is_over(now)][:_OVER]
        given: dict[str, Any] = {
            "running": running,
            "over": over,
            "run": gate,
            "health": health,
            "found": found,
            "now": now,
        }
        given |= {"cards": {one.test.name: await cards.of(one.test.name).get() for one in running[:_RUNNING]}}
        return room.pages.show(request, "experiments/page.html", page=PAGE.name, **given)

    @routes.get(PAGE.path + "/registry")
    async def show_registry(request: Request) -> Response:
        found = await registry.get(_LONG_PATIENCE_S)
        return room.pages.show(request, "experiments/registry.html", found=found)

    @routes.get(PAGE.path + "/gate")
    async def show_gate(request: Request) -> Response:
        """Show the last promotion that somebody has asked for; at its end the registry is read anew."""
        run = await asyncio.to_thread(commands.last, _GATE)
        over = run is None or run.state != "running"
        if over:
            registry.expire()
        headers = {"HX-Trigger": "registry"} if over else None
        return room.pages.show(request, "experiments/gate.html", run=run, headers=headers)

    @routes.get(PAGE.path + "/promote", dependencies=admins)
    async def ask_promotion(request: Request, version: int, force: bool = False) -> Response:
        known = await _know(registry)
        if known.champion is None:
            raise ERRORS.refuse("conflict", f"{known.model} has no champion yet: register the first one with an alias")
        candidate = next((one for one in known.candidates if one.version.number == version), None)
        if candidate is None:
            raise ERRORS.refuse("conflict", f"version {version} is no challenger: it is the champion, or there is none")
        return ask(room, request, PAGE.name, PAGE.path, confirm_promotion(known, candidate, force, room.config.gate))

    @routes.post(PAGE.path + "/promote", dependencies=admins)
    async def promote(request: Request) -> Response:
        form = await read_form(request, _Promotion)
        arguments = [str(form.version), "--champion", str(form.champion), "--model", room.config.model]
        arguments += ["--gate", room.config.gate] if room.config.gate else []
        arguments += [f"--force={form.force}"] if form.force else []
        about = {"version": form.version, "champion": form.champion, "force": form.force}
        by = who(request)
        await do(lambda: commands.start(_GATE, "rl.promote", arguments, by, about))
        return back(request, PAGE.path)

    @routes.post(PAGE.path + "/gate/stop", dependencies=admins)
    async def stop_gate(request: Request) -> Response:
        run = await asyncio.to_thread(commands.last, _GATE)
        if run is not None:
            name = run.name
            await do(lambda: commands.stop(name))
        return back(request, PAGE.path)

    @routes.get(PAGE.path + "/rollback", dependencies=admins)
    async def ask_rollback(request: Request) -> Response:
        known = await _know(registry)
        if known.champion is None or known.before is None:
            raise ERRORS.refuse("conflict", "nothing was promoted that could be taken back")
        return ask(room, request, PAGE.name, PAGE.path, confirm_rollback(known))

    @routes.post(PAGE.path + "/rollback", dependencies=admins)
    async def rollback(request: Request) -> Response:
        form = await read_form(request, _Rollback)
        await do(lambda: roll_back(settings, room.config.model, version=form.version))
        registry.expire()
        return back(request, PAGE.path)

    @routes.get(PAGE.path + "/reports/{run_id}")
    async def report(request: Request, run_id: str, file: Annotated[bool, Query()] = False) -> Response:
        """Show the report of a trial, or send it as the page that the gate has made."""
        found = await do(lambda: reader.report(run_id))
        if file:
            sent = {"content-disposition": f'attachment; filename="gate-{found.challenger.digest}.html"'}
            return Response(render(found), media_type="text/html", headers=sent)
        drawn = dict[str, Any]()
        if (comparison := found.comparison) is not None:
            drawn = {"bounds": draw_bounds(comparison), "looks": draw_looks(comparison)}
            drawn |= {"rewards": draw_rewards(comparison), "weights": draw_weights(comparison)}
        given: dict[str, Any] = {"report": found, "run_id": run_id, "drawn": drawn}
        return room.pages.show(request, "experiments/report.html", page=PAGE.name, **given)

    routes.include_router(abtests.router(room, cards, registry))
    return routes


async def _know(registry: Kept[Registry]) -> Registry:
    """Return the registry, once it is read.

    Raises:
        Refused: it does not answer, or not yet.
    """
    found = await registry.get(_LONG_PATIENCE_S)
    if found is None:
        raise ERRORS.refuse("not_ready", "the registry is being read, try again in a few seconds")
    if found.value is None:
        raise ERRORS.refuse("conflict", found.problem)
    return found.value


async def _health(room: Room) -> Health | str:
    """Return how the service is, or why that is not known."""
    try:
        return await room.desk.health()
    except Refused as error:
        return str(error)
