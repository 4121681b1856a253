"""What has become of A/B tests: each change of one is a value of one setting of the log; together they are its state.

So the history is kept whole - who, what, when, why -, and whoever has seen the last change has seen all.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from data.log.current.settings_table import Setting, SettingsTable
from data.schema import Mode
from rl.online.fold import Place
from serve.abtests.assignment import Interval, measure
from serve.abtests.specification import UNSEEN, ABTest

SETTING = "abtests"
"""The name of the setting."""

Action: TypeAlias = Literal["start", "pin", "shares", "switch_off", "stop"]
"""pin: the registry's names of policies were resolved to versions, which they are from then on."""
By: TypeAlias = Annotated[str, Field(min_length=1, max_length=256, description="who")]
Why: TypeAlias = Annotated[str, Field(max_length=1_000, description="the reason")]


class Pinned(BaseModel):
    """The version of the registry, and the artefact, that a variant's policy is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int | None = Field(default=None, description="null: of one that is on the shelf")
    digest: str


class Change(BaseModel):
    """One change of one test."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    test: str
    action: Action
    by: By
    why: Why | None = None
    definition: ABTest | None = Field(default=None, description="of a start")
    shares: dict[str, float] | None = Field(default=None, description="of the users, by variant, from then on")
    intervals: tuple[Interval, ...] | None = Field(default=None, description="whose users these are; see the hash")
    variant: str | None = Field(default=None, description="the one that was switched off")
    pinned: dict[str, Pinned] | None = Field(default=None, description="of a pin, by variant")


class LoggedChange(BaseModel):
    """A change, and when it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    time: datetime
    action: Action
    by: str
    why: str | None
    shares: dict[str, float] | None
    variant: str | None
    pinned: dict[str, Pinned] | None


class ABTestState(BaseModel):
    """A test as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    test: ABTest
    started_at: datetime
    started_by: str
    stopped_at: datetime | None = None
    shares: dict[str, float]
    """Of the users, by variant, now."""
    intervals: tuple[Interval, ...] = ()
    switched_off: tuple[str, ...] = ()
    pinned: dict[str, Pinned] = {}
    history: tuple[LoggedChange, ...] = ()

    @property
    def place(self) -> Place:
        """The loop and the objective."""
        return self.test.loop, self.test.objective

    @property
    def phases(self) -> list[tuple[datetime, dict[str, float]]]:
        """When the shares of the users changed, and what they were from then on, by variant; first: its beginning."""
        shared = [(change.time, change.shares) for change in self.history if change.shares is not None]
        return [(max(time, self.begins), dict(shares)) for time, shares in shared]

    @property
    def begins(self) -> datetime:
        """When the first exposure can have been."""
        return max(self.started_at, self.test.starts) if self.test.starts else self.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it was stopped or ends by itself, whichever is first."""
        ends = [time for time in (self.stopped_at, self.test.ends) if time is not None]
        return min(ends, default=None)

    def runs(self, now: datetime) -> bool:
        """Say whether it runs at a time."""
        ended = self.ended_at
        return self.begins <= now and (ended is None or now < ended)

    def is_over(self, now: datetime) -> bool:
        """Say whether it has ended by a time."""
        ended = self.ended_at
        return ended is not None and ended <= now

    def mode(self, variant: str) -> Mode | None:
        """Return the mode that a variant's decisions have; None: that of the request."""
        given = self.test.variants[variant].mode
        if given is None and self.test.kind in UNSEEN:
            return "exploit" if self.test.kind == "apprentice" else "explore"
        return given

    def after(self, change: Change, time: datetime) -> "ABTestState":
        """Return the state after a change that is no start."""
        new: dict[str, object] = {}
        if change.shares is not None:
            new["shares"] = change.shares
        if change.intervals is not None:
            new["intervals"] = change.intervals
        if change.action == "switch_off" and change.variant is not None:
            new["switched_off"] = (*self.switched_off, change.variant)
        if change.action == "shares":
            back = {name for name, share in (change.shares or {}).items() if share > 0}
            new["switched_off"] = tuple(name for name in self.switched_off if name not in back)
        if change.pinned is not None:
            new["pinned"] = self.pinned | change.pinned
        if change.action == "stop" and self.stopped_at is None:
            new["stopped_at"] = time
        return self.model_copy(update=new | {"history": (*self.history, _logged(change, time))})


def _begin(change: Change, time: datetime) -> ABTestState:
    assert change.definition is not None, "a start has a definition"
    return ABTestState(
        test=change.definition,
        started_at=time,
        started_by=change.by,
        shares=change.shares or {},
        intervals=change.intervals or (),
        history=(_logged(change, time),),
    )


def _logged(change: Change, time: datetime) -> LoggedChange:
    shown = change.model_dump(include=LoggedChange.model_fields.keys() - {"time"})
    return LoggedChange(time=time, **shown)


def fold_changes(changes: Iterable[Setting]) -> dict[str, ABTestState]:
    """Return the state of every test, by name, the oldest first, given all changes in their order."""
    states = dict[str, ABTestState]()
    for setting in changes:
        change = Change.model_validate(setting.value)
        if change.action == "start":
            states[change.test] = _begin(change, setting.time)
        elif known := states.get(change.test):
            states[change.test] = known.after(change, setting.time)
    return states


def read_states(settings: SettingsTable) -> dict[str, ABTestState]:
    """Return the state of every test, by name, the oldest first."""
    return fold_changes(settings.history([SETTING]))


def current_shares(state: ABTestState) -> Mapping[str, float]:
    """Return the share of the users that each variant has, as they are assigned."""
    return measure(state.intervals) if state.intervals else state.shares
