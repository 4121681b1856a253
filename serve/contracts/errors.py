"""What a request is refused with: a table of errors for each interface, and the exception that says which of them.

An interface declares its errors in a `Table`, which is typed by the literal of its codes: `ERRORS.refuse(CODE, ...)`
returns the exception, and another code is an error of types. `serve.http.answers` makes responses of failures, in the
shape of the interface that was asked. The table of version 1 is here, as what stands before all routes (keys, limits,
bodies) refuses with its codes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from pydantic import Field

from data.errors import RecommenderError
from serve.contracts.body import Body

C = TypeVar("C", bound=str)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of a table."""

    status: int
    when: str
    """When it is answered; also the message, where there is nothing more exact to say."""
    right: str = ""
    """What would be right."""
    retry_after_s: int | None = None
    """Sent as Retry-After where the failure does not know better; None: sending it again does not help."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What was wrong with one request."""

    code: str
    kind: Kind
    """Its row of the table."""
    message: str
    where: str | None = None
    """The field, as a dotted path."""
    retry_after_s: int | None = None
    """In place of the table's."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(RecommenderError):  # noqa: N818 - an answer to the client, not a mistake of ours
    """A request is answered with an error of its interface's table."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Table(Mapping[C, Kind]):
    """The errors of one interface, by code."""

    def __init__(self, kinds: Mapping[C, Kind]) -> None:
        self._kinds = kinds

    def __getitem__(self, code: C) -> Kind:
        """Return the row of a code."""
        return self._kinds[code]

    def __iter__(self) -> Iterator[C]:
        """Iterate over the codes."""
        return iter(self._kinds)

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self._kinds)

    def fail(
        self,
        code: C,
        message: str | None = None,
        where: str | None = None,
        *,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Failure:
        """Return a failure.

        Args:
            code: of the table.
            message: what was wrong, and what would be right; default: the table's.
            where: the field, as a dotted path.
            retry_after_s: seconds until it is worth trying again; default: the table's.
            headers: of the response.
        """
        kind = self._kinds[code]
        return Failure(code, kind, kind.when if message is None else message, where, retry_after_s, headers or {})

    def refuse(
        self, code: C, message: str | None = None, where: str | None = None, *, retry_after_s: int | None = None
    ) -> Refused:
        """Return the exception to raise: `raise ERRORS.refuse("unknown_item", "no item 'x'", "item_id")`."""
        return Refused(self.fail(code, message, where, retry_after_s=retry_after_s))


Code: TypeAlias = Literal[
    "invalid_request",
    "unanswerable",
    "unauthorized",
    "forbidden",
    "not_found",
    "unknown_node",
    "unknown_decision",
    "unknown_user",
    "unknown_item",
    "unknown_abtest",
    "method_not_allowed",
    "body_timeout",
    "conflict",
    "not_explainable",
    "body_too_large",
    "unsupported_media_type",
    "rate_limited",
    "busy",
    "timeout",
    "store_unavailable",
    "not_ready",
    "making_again",
    "internal",
]

ERRORS: Final = Table[Code](
    {
        "invalid_request": Kind(422, "the body or a parameter is not what the interface describes", "`where` names it"),
        "unanswerable": Kind(
            422, "no served policy can answer this, such as with no candidate left", "as `message` says"
        ),
        "unauthorized": Kind(401, "no valid API key", "`Authorization: Bearer KEY` with a key that has not ended"),
        "forbidden": Kind(403, "the key's role does not allow this", "a key of the role that `message` names"),
        "not_found": Kind(404, "there is no such path", "one of `/docs`"),
        "unknown_node": Kind(404, "the service takes no events of this node", "one that `message` names"),
        "unknown_decision": Kind(404, "the log has no decision with this id", "an id that a recommendation returned"),
        "unknown_user": Kind(404, "nothing is known of this user", "a user of whom something was reported"),
        "unknown_item": Kind(404, "the catalogue has no such item", "an item that was put into it"),
        "unknown_abtest": Kind(404, "there is no A/B test of this name", "one of `GET /v1/abtests`"),
        "method_not_allowed": Kind(405, "the path does not take this method", "one that `Allow` names"),
        "body_timeout": Kind(408, "the body did not arrive in time", "the whole body within `limits.body_timeout_s`"),
        "conflict": Kind(409, "a known name with another content, or it contradicts what is so", "as `message` says"),
        "not_explainable": Kind(
            409, "the version that made the decision cannot be made again, as `message` says", "a later decision"
        ),
        "body_too_large": Kind(413, "the body is larger than `limits.max_body_bytes`", "a smaller batch"),
        "unsupported_media_type": Kind(
            415, "the body is no JSON, plain or in gzip", "`Content-Type: application/json`"
        ),
        "rate_limited": Kind(429, "more requests than this key or address may send", "wait for `Retry-After`", 1),
        "busy": Kind(503, "as many requests as the replica takes are being answered", "wait for `Retry-After`", 1),
        "timeout": Kind(503, "the request's own `timeout_s` has passed", "a longer one, or again", 1),
        "store_unavailable": Kind(
            503, "the log cannot commit now, as `message` says", "again: nothing counts twice", 1
        ),
        "not_ready": Kind(503, "the replica has no policy yet", "wait for `Retry-After`", 1),
        "making_again": Kind(
            503,
            "the version that made the decision is made again from the log, which takes longer",
            "again: it goes on",
            2,
        ),
        "internal": Kind(500, "a fault of ours", "report the `request_id`; the log says why"),
    }
)
"""The errors of version 1."""

_MAX_WHERE, _MAX_MESSAGE = 200, 1_000  # an answer does not grow with a hostile request


class Problem(Body):
    """An error."""

    code: str
    message: str = Field(description="what was wrong, and what would be right")
    where: str | None = Field(default=None, description="the field, as a dotted path")
    request_id: str | None = Field(default=None, description="what the log calls this request, as `X-Request-Id`")


class ErrorResponse(Body):
    """The one shape of all errors."""

    error: Problem


def describe(failure: Failure, request_id: str) -> ErrorResponse:
    """Return what version 1 says of a failure; the request may have no id, ""."""
    where = failure.where[:_MAX_WHERE] if failure.where else None
    message = failure.message[:_MAX_MESSAGE]
    return ErrorResponse(error=Problem(code=failure.code, message=message, where=where, request_id=request_id or None))
