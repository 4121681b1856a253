"""What pages that change something share: who asks, a question before it, and refusals in the project's words."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from data.errors import RecommenderError
from data.log.errors import StoreError
from serve.abtests.errors import UnknownABTest
from serve.console.experiments.confirmations import Confirmation
from serve.console.room import Room
from serve.console.visitors import visitor
from serve.contracts.errors import ERRORS, Refused

T = TypeVar("T")


def who(request: Request) -> str:
    """Return the name of the key that a visitor has logged in with, for histories."""
    principal = visitor(request.scope).principal
    return principal.name if principal else "anyone"


async def do(change: Callable[[], T]) -> T:
    """Return what a function that blocks returns.

    Raises:
        Refused: what it has refused, in its own words; not_ready where the log does not answer is the edge's.
    """
    try:
        return await asyncio.to_thread(change)
    except (Refused, StoreError):
        raise
    except UnknownABTest as error:
        raise ERRORS.refuse("unknown_abtest", str(error)) from None
    except RecommenderError as error:
        raise ERRORS.refuse("conflict", str(error)) from None


def ask(room: Room, request: Request, page: str, path: str, question: Confirmation) -> Response:
    """Show what a change would change, with the form that makes it; `path` is that of the page."""
    return room.pages.show(request, "experiments/confirmation.html", page=page, question=question, path=path)


def back(request: Request, path: str) -> Response:
    """Lead to a page after a change."""
    return RedirectResponse(request.scope.get("root_path", "") + path, 303)
