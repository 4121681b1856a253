"""The edge of the service in one piece: keys, limits, errors and logs around an application."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from data.json_lines import Redact
from data.log.current.keys import Role
from serve.config import Limits
from serve.contracts.errors import ERRORS
from serve.http import answers, exchange
from serve.http.access_log import Count, Recorder
from serve.http.answers import Answers
from serve.http.bypass.fast_path import FastPath, read_endpoint
from serve.http.gate import Gate, Rates
from serve.http.head import METHODS, Head
from serve.http.keys import KeyRing

_EXPOSED = ("X-Request-Id", "Retry-After", "WWW-Authenticate")
_REMEMBERED_S = 600


@dataclass
class Edge:
    """Who is let in, how much they may take, and how they are refused. By default: all, with the default limits."""

    keys: KeyRing = field(default_factory=KeyRing)
    limits: Limits = field(default_factory=Limits)
    answers: Answers = field(default_factory=Answers)
    redact: Redact = field(default_factory=Redact)
    access_log: bool = True
    answer_id: bool = True
    """Send `X-Request-Id`; not behind Ray Serve, which does so itself."""
    origins: tuple[str, ...] = ()
    """Whose pages may ask from a browser; "*": everybody's."""
    plain: bool = False
    """Do without `serve.http.bypass`."""
    count: Count | None = None
    """Is told of each request that was answered with an error: its path and the error's code."""
    gate: type[Gate] = Gate
    """What lets requests in."""

    traced: Callable[[ASGIApp], ASGIApp] | None = None
    """Put around all that answers a request; None: nothing is."""

    def __post_init__(self) -> None:
        self.rates = Rates(self.limits)
        """`rates.share(n)` says among how many replicas a key's requests are spread."""

    def install(self, api: FastAPI, fast: Sequence[BaseRoute] = ()) -> None:
        """Put it around an application; what is mounted in it needs `serve.http.answers.install` as well.

        Args:
            api: the application, before its first request.
            fast: routes of it that are called past FastAPI, see `serve.http.bypass.fast_path`.

        Raises:
            TypeError: one of these cannot be.
        """
        endpoints = [read_endpoint(route) for route in fast]
        answers.install(api, self.answers)
        # Each is put around those before it.
        if endpoints:
            api.add_middleware(FastPath, endpoints=endpoints, handle=answers.handler(self.answers))
        api.add_middleware(self.gate, keys=self.keys, limits=self.limits, rates=self.rates, answers=self.answers)
        api.add_middleware(Head)
        if self.traced:
            api.add_middleware(self.traced)
        api.add_middleware(
            Recorder,
            answers=self.answers,
            redact=self.redact,
            access_log=self.access_log,
            answer_id=self.answer_id,
            plain=self.plain,
            count=self.count,
        )
        if self.origins:
            # Outermost: a browser asks whether it may ask without a key, and is to see errors as well.
            api.add_middleware(
                CORSMiddleware,
                allow_origins=self.origins,
                allow_methods=METHODS,
                allow_headers=("*",),
                expose_headers=_EXPOSED,
                max_age=_REMEMBERED_S,
            )


class Allow(SecurityBase):
    """A dependency that lets keys of some roles pass, and those of admins: `Depends(Allow("node"))`."""

    model = HTTPBearer(description="An API key; `X-API-Key: KEY` and `Ocp-Apim-Subscription-Key: KEY` do as well.")
    scheme_name = "key"

    def __init__(self, *roles: Role) -> None:
        self._roles = roles

    async def __call__(self, request: Request) -> None:
        """Raise Refused if the key's role is none of them."""
        principal = exchange.of(request.scope).principal
        if principal is None or not principal.may(*self._roles):
            wanted = " or ".join(dict.fromkeys((*self._roles, "admin")))
            own = principal.role if principal else "none"
            raise ERRORS.refuse("forbidden", f"a key of role {wanted} may do this, and this one's is {own}")
