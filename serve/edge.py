"""The edge of the service in one piece: keys, limits, errors and logs around an application. No Ray."""

from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from serve import errors, exchange
from serve.config import Limits
from serve.errors import Answers, Refused
from serve.keys import KeyRing, Role
from serve.limits import Gate, Rates
from serve.logs import Recorder, Redact


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

    def __post_init__(self) -> None:
        self.rates = Rates(self.limits)
        """`rates.share(n)` says among how many replicas a key's requests are spread."""

    def install(self, api: FastAPI) -> None:
        """Put it around an application; what is mounted in it needs `errors.install` as well."""
        errors.install(api, self.answers)
        # The last one added is the outermost.
        api.add_middleware(Gate, keys=self.keys, limits=self.limits, rates=self.rates, answers=self.answers)
        api.add_middleware(
            Recorder,
            answers=self.answers,
            redact=self.redact,
            access_log=self.access_log,
            answer_id=self.answer_id,
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
            raise Refused("forbidden", f"a key of role {wanted} may do this, and this one's is {own}")
