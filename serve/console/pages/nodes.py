"""Data: what nodes send, what is rejected and why, whether anything drifts, how large log and archive are."""

import asyncio
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from data.archive.parquet import Archive
from data.archive.summary import summarise
from data.errors import DataError
from data.ingest.trying import MOST_ROWS, try_file
from data.log.recent.arrivals import time_of_decision
from data.nodes.node import NODES, NodeSpec, load_node
from serve.console.nodes.activity import mask, read_activity
from serve.console.pages.changing import back, do, who
from serve.console.rendering import Page
from serve.console.room import Room
from serve.console.visitors import visitor
from serve.console.work.commands import Commands, environment_of
from serve.console.work.kept import Kept
from serve.contracts.errors import ERRORS, Refused
from serve.contracts.learning import LearningResponse
from serve.http.edge import Allow

PAGE: Final = Page("Data", "/data", "database")
_DRIFT: Final = "drift"
_ACTIVITY_S: Final = 2.0
_ARCHIVE_S: Final = 60.0
_PATIENCE_S: Final = 0.15
_LONG_PATIENCE_S: Final = 20.0
_WATCHED: Final = 20_000
"""The newest decisions that a look for drift watches."""
_TRIES: Final = 2
"""Files that are tried at once."""


def router(room: Room) -> APIRouter:
    """Return the routes."""
    settings, store = room.config.settings, room.store
    commands = Commands(settings, environment_of(settings, room.config.home is not None))
    activity = Kept(lambda: read_activity(store), _ACTIVITY_S)
    archive = Kept(lambda: summarise(Archive.at(settings.archive_uri)), _ARCHIVE_S)
    trying = asyncio.Semaphore(_TRIES)
    routes = APIRouter(dependencies=[Depends(Allow("reader"))])
    admins = [Depends(Allow())]

    @routes.get(PAGE.path)
    async def page(request: Request) -> Response:
        found, archived, drift, learning = await asyncio.gather(
            activity.get(_PATIENCE_S),
            archive.get(_PATIENCE_S),
            asyncio.to_thread(commands.last, _DRIFT),
            _learning(room),
        )
        given: dict[str, Any] = {
            "found": found,
            "archived": archived,
            "run": drift,
            "learning": learning,
            "show": _values(request),
        }
        given |= {"nodes": _declared(room.config.nodes), "most_rows": MOST_ROWS, "free": _free(settings.home)}
        limit = room.config.limits.max_body_bytes
        return room.pages.show(request, "nodes/page.html", page=PAGE.name, limit=limit, watched=_WATCHED, **given)

    @routes.get(PAGE.path + "/activity")
    async def show_activity(request: Request) -> Response:
        found, learning = await asyncio.gather(activity.get(_LONG_PATIENCE_S), _learning(room))
        free = _free(settings.home)
        given: dict[str, Any] = {"found": found, "learning": learning, "free": free, "show": _values(request)}
        return room.pages.show(request, "nodes/activity.html", **given)

    @routes.get(PAGE.path + "/archive")
    async def show_archive(request: Request) -> Response:
        archived = await archive.get(_LONG_PATIENCE_S)
        return room.pages.show(request, "nodes/archive.html", archived=archived, show=_values(request))

    @routes.get(PAGE.path + "/drift")
    async def show_drift(request: Request) -> Response:
        run = await asyncio.to_thread(commands.last, _DRIFT)
        return room.pages.show(request, "nodes/drift.html", run=run, watched=_WATCHED)

    @routes.post(PAGE.path + "/drift", dependencies=admins)
    async def look_for_drift(request: Request) -> Response:
        by = who(request)

        def begin() -> None:
            since = time_of_decision(store, store.last_decision() - _WATCHED + 1)
            arguments = [] if since is None else ["--since", since.isoformat()]
            commands.start(_DRIFT, "rl.drift", arguments, by, {})

        await do(begin)
        return back(request, PAGE.path + "#drift")

    @routes.post(PAGE.path + "/try", dependencies=admins)
    async def try_it(
        request: Request,
        node: Annotated[str, Query(max_length=64)],
        file: Annotated[str, Query(min_length=1, max_length=255)],
        cut: bool = False,
    ) -> Response:
        """Say what an ingestion of a file would reject; the file is the body, and is not stored."""
        declared = _declared(room.config.nodes)
        if node not in declared:
            raise ERRORS.refuse("unknown_node", f"no node {node!r} is declared here: {', '.join(declared)} are", "node")
        if trying.locked():
            raise ERRORS.refuse("busy", f"{_TRIES} files are being tried: try again in a moment")
        content, (named, spec) = await request.body(), declared[node]
        async with trying:
            tried = await do(lambda: try_file(content, Path(file).name, spec))
        given: dict[str, Any] = {
            "tried": tried,
            "file": Path(file).name,
            "cut": cut,
            "named": named,
            "most_rows": MOST_ROWS,
        }
        return room.pages.show(request, "nodes/tried.html", **given)

    return routes


@cache
def _declared(paths: tuple[str, ...]) -> dict[str, tuple[str, NodeSpec]]:
    """Return the nodes against which a file can be tried, by name: how a command names each, and its declaration."""
    found = dict[str, tuple[str, NodeSpec]]()
    for given in (*sorted(path.stem for path in NODES.glob("*.toml")), *paths):
        try:
            spec = load_node(given)
        except DataError:  # of a path that is configured: the page shows those that can be used
            continue
        found[spec.name if spec.name not in found else given] = (given, spec)
    return found


def _values(request: Request) -> Callable[[str | None], str | None]:
    """Return how values of rejects are shown to a visitor: they are personal data, so only admins see them."""
    principal = visitor(request.scope).principal
    admin = principal is not None and principal.role == "admin"
    return (lambda value: value) if admin else mask


async def _learning(room: Room) -> LearningResponse | str:
    """Return how far learning is behind the log, or why that is not known."""
    try:
        return await room.desk.learning()
    except Refused as error:
        return str(error)


def _free(home: Path) -> tuple[int, int] | None:
    """Return the bytes that are free on the disk of the home, and all; None: it is not on this machine."""
    try:
        usage = shutil.disk_usage(home)
    except OSError:
        return None
    return usage.free, usage.total
