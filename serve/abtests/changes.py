"""Changes of A/B tests: started, shares changed, a variant switched off, stopped. Each is logged with who and why.

A change is one row of the log's settings; replicas and the learner follow them (`serve.abtests.running`).
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from pydantic_core import to_jsonable_python

from data.log.current.settings_table import SettingsTable, reading, writing
from data.log.loops import begun_folds
from data.log.store import Store
from serve.abtests.assignment import allot, reallot
from serve.abtests.errors import ABTestRefused, UnknownABTest
from serve.abtests.specification import UNSEEN, ABTest, check_shares
from serve.abtests.state import SETTING, ABTestState, Change, Pinned, read_states


def list_tests(store: Store) -> dict[str, ABTestState]:
    """Return the state of every test, by name, the oldest first. Blocks.

    Raises:
        StoreError: they cannot be read.
    """
    with reading(store) as settings:
        return read_states(settings)


def list_running(store: Store) -> list[ABTestState]:
    """Return the tests that run, the oldest first. Blocks.

    Raises:
        StoreError: they cannot be read.
    """
    now = store.now()
    return [state for state in list_tests(store).values() if state.runs(now)]


def find_test(store: Store, name: str) -> ABTestState:
    """Return the state of a test. Blocks.

    Raises:
        UnknownABTest: there is none.
        StoreError: it cannot be read.
    """
    return _find(list_tests(store), name)


def start(store: Store, test: ABTest, *, by: str, why: str | None = None) -> ABTestState:
    """Start a test; the replicas follow within seconds.

    Raises:
        ABTestRefused: there is or was one of its name, another one has its users, its objective or a policy of it is
            not served, or it would end before it begins.
        StoreError: nothing was changed.
    """
    served = _served(store, test.loop, test.objective)
    with writing(store) as settings:
        now, states = store.now(), read_states(settings)
        if test.name in states:
            raise ABTestRefused(
                f"there was a test {test.name!r} already, and the log has its exposures: name it otherwise"
            )
        if test.ends and test.ends <= now:
            raise ABTestRefused(f"it would have ended at {test.ends.isoformat()}, and it is {now.isoformat()}")
        _check_policies(test, served)
        _check_users(test, states, now)
        intervals = None if test.kind in UNSEEN else allot(test.shares)
        change = Change(
            test=test.name, action="start", by=by, why=why, definition=test, shares=test.shares, intervals=intervals
        )
        return _append(settings, states, change, now)


def set_shares(store: Store, name: str, shares: Mapping[str, float], *, by: str, why: str | None = None) -> ABTestState:
    """Change the shares of a test that runs; as few users as that takes change their variant.

    Raises:
        ABTestRefused: there is no such test, it is over, or these are no shares of its variants.
        StoreError: nothing was changed.
    """

    def change(state: ABTestState) -> Change:
        try:
            check_shares(state.test, dict(shares))
        except ValueError as error:
            raise ABTestRefused(str(error)) from error
        intervals = None if state.test.kind in UNSEEN else reallot(state.intervals, shares)
        return Change(test=name, action="shares", by=by, why=why, shares=dict(shares), intervals=intervals)

    return _change(store, name, change)


def switch_off(store: Store, name: str, variant: str, *, by: str, why: str | None = None) -> ABTestState:
    """Give the users of a variant to the control. One that is off already stays so, and nothing is logged.

    In a test that nobody sees, and between interleaved variants, there is no such user: the variant decides no more, or
    the control fills the slates alone.

    Raises:
        ABTestRefused: there is no such test or variant, it is the control, or the test is over.
        StoreError: nothing was changed.
    """

    def change(state: ABTestState) -> Change | None:
        test = state.test
        if variant not in test.variants or variant == test.control:
            others = ", ".join(one for one in test.variants if one != test.control)
            raise ABTestRefused(f"switched off can be {others}, not {variant!r}: the control gets its users")
        if variant in state.switched_off:
            return None
        shares = state.shares | {variant: 0.0}
        if test.kind not in UNSEEN:
            shares[test.control] = state.shares[test.control] + state.shares[variant]
        intervals = None if test.kind in UNSEEN else reallot(state.intervals, shares)
        return Change(
            test=name, action="switch_off", by=by, why=why, variant=variant, shares=shares, intervals=intervals
        )

    return _change(store, name, change)


def stop(store: Store, name: str, *, by: str, why: str | None = None) -> ABTestState:
    """End a test: its users go back to the configured routing. One that was stopped stays as it is.

    Raises:
        UnknownABTest: there is no such test.
        StoreError: nothing was changed.
    """
    return _change(store, name, lambda state: Change(test=name, action="stop", by=by, why=why), only_running=False)


def pin(store: Store, name: str, pinned: Mapping[str, Pinned], *, by: str) -> ABTestState:
    """Note which versions of the registry variants are: they stay these, whatever an alias names later.

    Raises:
        ABTestRefused: there is no such test, or it is over.
        StoreError: nothing was changed.
    """

    def change(state: ABTestState) -> Change | None:
        new = {variant: one for variant, one in pinned.items() if variant not in state.pinned}
        return Change(test=name, action="pin", by=by, pinned=new) if new else None

    return _change(store, name, change)


def _change(
    store: Store, name: str, make: Callable[[ABTestState], Change | None], *, only_running: bool = True
) -> ABTestState:
    with writing(store) as settings:
        now, states = store.now(), read_states(settings)
        state = _find(states, name)
        if state.stopped_at is not None and not only_running:
            return state
        if only_running and state.is_over(now):
            raise ABTestRefused(f"test {name!r} is over since {state.ended_at}: start another one")
        change = make(state)
        return state if change is None else _append(settings, states, change, now)


def _append(settings: SettingsTable, states: Mapping[str, ABTestState], change: Change, now: datetime) -> ABTestState:
    value = to_jsonable_python(change.model_dump(mode="json", exclude_defaults=True))
    settings.append(SETTING, value, now)
    if change.action == "start":
        return read_states(settings)[change.test]
    return states[change.test].after(change, now)


def _find(states: Mapping[str, ABTestState], name: str) -> ABTestState:
    if name not in states:
        raise UnknownABTest(f"there is no A/B test {name!r}; there are {', '.join(states) or 'none'}")
    return states[name]


def _served(store: Store, loop: str, objective: str) -> set[str] | None:
    """Return the policies of the last fold of a loop and objective; None: no service has learned from this log."""
    folds = begun_folds(store, loop, None)
    of_objective = [fold for fold in folds if fold.objective == objective]
    if not folds:
        return None
    if not of_objective:
        names = sorted({fold.objective for fold in folds})
        raise ABTestRefused(f"objective {objective!r} is not served; served are {', '.join(names)}")
    policies = (of_objective[0].begins or {}).get("policies")
    return {*policies} if isinstance(policies, dict) else set()


def _check_policies(test: ABTest, served: set[str] | None) -> None:
    if served is None:
        return
    configured = {name: one.policy for name, one in test.variants.items() if one.configured}
    if missing := {name: policy for name, policy in configured.items() if policy not in served}:
        said = ", ".join(f"{policy!r} of variant {name}" for name, policy in missing.items())
        names = ", ".join(sorted(name for name in served if "." not in name))
        raise ABTestRefused(f"policy {said} is not served; served are {names}, and versions: registry:VERSION or ALIAS")


def _check_users(test: ABTest, states: Mapping[str, ABTestState], now: datetime) -> None:
    """Check that nobody would be a user of two tests: what one is shown is one policy's choice."""
    if test.kind in UNSEEN:
        return
    for other in states.values():
        same = other.test.kind not in UNSEEN and other.place == (test.loop, test.objective)
        apart = other.is_over(now) or (test.starts and other.ended_at and other.ended_at <= test.starts)
        apart = apart or (test.ends and test.ends <= other.begins)
        if same and not apart:
            raise ABTestRefused(
                f"test {other.test.name!r} has the users of objective {test.objective!r}: stop it first, or let "
                "the one end before the other starts"
            )
