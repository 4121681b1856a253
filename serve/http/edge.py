"""The edge of the service in one piece: keys, limits, errors and logs around an application. No Ray."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from data.log.keys import Role
from serve.config import Limits
from serve.contracts.errors import ERRORS
from serve.http import answers as errors
from serve.http import exchange
from serve.http.access_log import Recorder, Redact
from serve.http.answers import Answers
from serve.http.fast_path import Direct
from serve.http.gate import Gate, Rates
from serve.http.head import METHODS, Head
from serve.keys import KeyRing

_TOLD = ("X-Request-Id", "Retry-After", "WWW-Authenticate")
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

    def __post_init__(self) -> None:
        self.rates = Rates(self.limits)
        """`rates.share(n)` says among how many replicas a key's requests are spread."""

    def install(self, api: FastAPI, direct: Iterable[APIRoute] = ()) -> None:
        """Put it around an application; what is mounted in it needs `errors.install` as well.

        Args:
            api: the application, before its first request.
            direct: hot routes of it, see `serve.http.fast_path`.
        """
        errors.install(api, self.answers)
        inner, hot = api.build_middleware_stack, tuple(direct)

        def around() -> ASGIApp:
            short = Direct(inner(), hot, errors.handler(self.answers))
            gate = Gate(short, self.keys, self.limits, self.rates, self.answers)
            recorder = Recorder(Head(gate), self.answers, self.redact, self.access_log, self.answer_id)
            if not self.origins:
                return recorder
            # Outermost: a browser asks whether it may ask without a key, and is to see errors as well.
            return CORSMiddleware(
                recorder,
                allow_origins=self.origins,
                allow_methods=METHODS,
                allow_headers=("*",),
                expose_headers=_TOLD,
                max_age=_REMEMBERED_S,
            )

        # Not by `add_middleware`: that would be inside of FastAPI's own, which a hot route has no need of.
        api.build_middleware_stack = around  # type: ignore[method-assign]


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
