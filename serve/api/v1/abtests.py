"""A/B tests over HTTP: start, see, change, stop."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from rl.evaluation.offpolicy.errors import EvaluationError
from serve.abtests.changes import find_test, list_tests, set_shares, start, stop, switch_off
from serve.abtests.contracts import (
    ABTestResponse,
    ABTestResults,
    ABTestsResponse,
    SharesRequest,
    StartRequest,
    StopRequest,
    SwitchOffRequest,
    describe,
    describe_with,
)
from serve.abtests.errors import ABTestRefused, UnknownABTest
from serve.abtests.results import describe_results
from serve.abtests.state import ABTestState
from serve.contracts.errors import ERRORS
from serve.decisions.service import Service
from serve.http import exchange
from serve.http.body import JsonRoute
from serve.http.edge import Allow
from serve.http.paths import KnownId


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(route_class=JsonRoute)
    store = service.store
    reads, changes = [Depends(Allow("reader"))], [Depends(Allow())]

    @routes.get("/abtests", dependencies=reads)
    async def tests() -> ABTestsResponse:
        """List the A/B tests, those that are over too, the newest first."""
        states, now = await asyncio.to_thread(list_tests, store), store.now()
        return ABTestsResponse(tests=[describe(state, now) for state in reversed(states.values())])

    @routes.post("/abtests", dependencies=changes, status_code=201)
    async def begin(body: StartRequest, request: Request) -> ABTestResponse:
        """Start an A/B test: all replicas follow within seconds. For keys of admins, as all that changes a test."""
        by = _who(request)
        return await _change(service, lambda: start(store, body.to_test(), by=by, why=body.why))

    @routes.get("/abtests/{name}", dependencies=reads)
    async def one(
        name: KnownId,
        past: Annotated[bool, Query(description="adjust for what users did before: reads weeks of the log")] = False,
    ) -> ABTestResults:
        """Return an A/B test: how it is, who has changed what and why, and what it says so far."""
        return await asyncio.to_thread(_read, service, name, past)

    @routes.post("/abtests/{name}/shares", dependencies=changes)
    async def share(name: KnownId, body: SharesRequest, request: Request) -> ABTestResponse:
        """Change the shares of the users; as few users as that takes change their variant."""
        by = _who(request)
        return await _change(service, lambda: set_shares(store, name, body.shares, by=by, why=body.why))

    @routes.post("/abtests/{name}/switch_off", dependencies=changes)
    async def off(name: KnownId, body: SwitchOffRequest, request: Request) -> ABTestResponse:
        """Give the users of a variant to the control; the test goes on."""
        by = _who(request)
        return await _change(service, lambda: switch_off(store, name, body.variant, by=by, why=body.why))

    @routes.post("/abtests/{name}/stop", dependencies=changes)
    async def end(name: KnownId, body: StopRequest, request: Request) -> ABTestResponse:
        """End an A/B test: its users go back to the configured routing."""
        by = _who(request)
        return await _change(service, lambda: stop(store, name, by=by, why=body.why))

    return routes


def _who(request: Request) -> str:
    """Return the name of the key that a request has; of a service without keys "anyone"."""
    principal = exchange.of(request.scope).principal
    return principal.name if principal else "anyone"


async def _change(service: Service, change: Callable[[], ABTestState]) -> ABTestResponse:
    def do() -> ABTestState:
        state = change()
        service.tests.refresh()  # this replica need not wait
        return state

    try:
        state = await asyncio.to_thread(do)
    except UnknownABTest as error:
        raise ERRORS.refuse("unknown_abtest", str(error), "name") from None
    except ABTestRefused as error:
        raise ERRORS.refuse("conflict", str(error)) from None
    return describe(state, service.store.now())


def _read(service: Service, name: str, past: bool) -> ABTestResults:
    store = service.store
    try:
        state = find_test(store, name)
    except UnknownABTest as error:
        raise ERRORS.refuse("unknown_abtest", str(error), "name") from None
    spec = service.reward_of(state.test.objective)
    try:
        results = describe_results(store, state, spec, with_past=past)
    except EvaluationError as error:
        raise ERRORS.refuse("conflict", f"the results of A/B test {name} cannot be read: {error}") from error
    return describe_with(state, store.now(), results)
