"""What may be asked about A/B tests over HTTP, and what is answered; the command prints the same."""

from datetime import datetime
from typing import Any

from pydantic import Field

from serve.abtests.specification import ABTest
from serve.abtests.state import ABTestState, LoggedChange, Pinned, Why
from serve.contracts.body import Body


class StartRequest(ABTest):
    """A test to start."""

    why: Why | None = None

    def to_test(self) -> ABTest:
        """Return the test without the reason."""
        return ABTest.model_validate(self.model_dump(exclude={"why"}))


class StopRequest(Body):
    """Why a test is stopped."""

    why: Why | None = None


class SharesRequest(Body):
    """Other shares of the users, of all variants."""

    shares: dict[str, float]
    why: Why | None = None


class SwitchOffRequest(Body):
    """A variant whose users the control is to get."""

    variant: str
    why: Why | None = None


class ABTestResponse(Body):
    """A test as it is."""

    test: ABTest
    running: bool
    started_at: datetime
    started_by: str
    ended_at: datetime | None = Field(description="when it was stopped, or ends by itself; null: not yet known")
    shares: dict[str, float] = Field(description="of the users, by variant, now")
    switched_off: tuple[str, ...]
    pinned: dict[str, Pinned] = Field(description="which policies variants of the registry or the shelf are")
    waits_for: tuple[str, ...] = Field(
        description="variants whose policies were not found yet: nobody is exposed before all are there"
    )
    history: tuple[LoggedChange, ...] = Field(description="who has changed what, when and why; the oldest first")


class ABTestResults(ABTestResponse):
    """A test, and what it says so far."""

    results: dict[str, Any] | None = Field(description="null: nothing was logged for it yet")


class ABTestsResponse(Body):
    """All tests, the newest first."""

    tests: list[ABTestResponse]


def describe(state: ABTestState, now: datetime) -> ABTestResponse:
    """Return a test as it is shown."""
    return ABTestResponse(**_fields(state, now))


def describe_with(state: ABTestState, now: datetime, results: dict[str, Any] | None) -> ABTestResults:
    """Return a test with its results."""
    return ABTestResults(**_fields(state, now), results=results)


def _fields(state: ABTestState, now: datetime) -> dict[str, Any]:
    variants = state.test.variants
    return {
        "test": state.test,
        "running": state.runs(now),
        "started_at": state.started_at,
        "started_by": state.started_by,
        "ended_at": state.ended_at,
        "shares": state.shares,
        "switched_off": state.switched_off,
        "pinned": state.pinned,
        "waits_for": tuple(n for n, one in variants.items() if not one.configured and n not in state.pinned),
        "history": state.history,
    }
