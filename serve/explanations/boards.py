"""What a served policy thinks of items by what it knows now: of many at the visits of late, of all in one state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from data.features.rfm import STATES_PER_SEGMENT, state_name
from data.schema import Decision, Features
from rl.encoders.customers import CustomerEncoder
from rl.encoders.visit import Visit
from rl.policies.forgetting.policy import ForgettingPolicy
from rl.policies.rfm.policy import RFMBandit
from rl.policy.interface import Policy
from serve.contracts.errors import ERRORS
from serve.decisions.recommender import Recommender, to_visit

BUSIEST = 12
"""States that are listed, of those that a table knows most of."""


@dataclass(frozen=True, slots=True)
class ItemEstimate:
    """What is expected of an item on average over some visits."""

    mean: float
    sd: float | None
    """How uncertain the policy is of it: the mean of its posterior's standard deviations. None: it does not know."""


@dataclass(frozen=True, slots=True)
class StateRow:
    """What a tabular policy knows of an item in a state."""

    item: str
    value: float
    """What it expects, wider contexts included."""
    mean: float | None
    """Of the rewards in this state alone; None: it was never learned from here."""
    count: float
    """Times that it was recommended in this state, and learned from."""
    in_segment: float
    """The same in all states of the segment."""


@dataclass(frozen=True, slots=True)
class StateTable:
    """What a tabular policy knows in a state."""

    policy: str
    state: int
    name: str
    rows: tuple[StateRow, ...]
    """The highest value first."""
    total: float
    """Times that anything was recommended in this state, and learned from."""
    busiest: tuple[tuple[int, str, float], ...]
    """The states that it has learned most in: number, name, times."""


def estimate_items(
    recommender: Recommender,
    policy: str,
    items: Sequence[str],
    visits: Sequence[Decision],
    features_of: Callable[[str], Mapping[str, JsonValue]],
) -> dict[str, ItemEstimate]:
    """Return what a policy expects of items, on average over the visits that some decisions were made for.

    Args:
        recommender: has the policy.
        policy: its name.
        items: of whatever catalogue; what is not known of one is what the policy assumes then.
        visits: decisions, at least one.
        features_of: what the catalogue says of an item.
    """
    artefact = recommender.artefact(policy)
    of_items = tuple((dict(features_of(item)),) for item in items)
    asked = list[Visit]()
    for decision in visits:
        visit = recommender.with_history(artefact, to_visit(decision))
        known = None if visit.features is None else Features(context=visit.features.context, items=of_items)
        asked.append(replace(visit, candidates=tuple(items), features=known, slots=(), rules=None))
    mean, sd = artefact.policy.posterior(artefact.encoder.query(asked))  # [visits, items] both
    means = mean.mean(axis=0).tolist()
    deviations: list[float | None] = [None] * len(items) if sd is None else sd.mean(axis=0).tolist()
    return {item: ItemEstimate(*of) for item, *of in zip(items, means, deviations, strict=True)}


def read_state(recommender: Recommender, policy: str, state: int | None) -> StateTable:
    """Return what a tabular policy knows in a state; None: in the one that it has learned most in.

    Raises:
        Refused: unknown_policy, none of that name is served; invalid_request, it keeps no table, or not of that state.
    """
    if policy not in recommender.names:
        raise ERRORS.refuse("invalid_request", f"policy {policy!r} is not served here", "policy")
    artefact = recommender.artefact(policy)
    table, encoder = find_table(artefact.policy), artefact.encoder
    if table is None or not isinstance(encoder, CustomerEncoder):
        raise ERRORS.refuse("invalid_request", f"policy {policy!r} keeps no table of states", "policy")
    sums, counts = table.state_dict()["sums"], table.state_dict()["counts"]
    by_state = counts.sum(axis=1)
    number = int(by_state.argmax()) if state is None else state
    if not 0 <= number < len(counts):
        raise ERRORS.refuse("invalid_request", f"state must be from 0 to {len(counts) - 1}, got {number}", "state")
    values = table.values(number)
    begin = number // STATES_PER_SEGMENT * STATES_PER_SEGMENT
    of_segment = counts[begin : begin + STATES_PER_SEGMENT].sum(axis=0)
    rows = [
        StateRow(
            item=item,
            value=float(values[at]),
            mean=float(sums[number, at] / counts[number, at]) if counts[number, at] else None,
            count=float(counts[number, at]),
            in_segment=float(of_segment[at]),
        )
        for at, item in enumerate(encoder.items, start=1)
    ]
    busiest = np.argsort(-by_state, kind="stable")[:BUSIEST].tolist()
    return StateTable(
        policy=policy,
        state=number,
        name=state_name(number),
        rows=tuple(sorted(rows, key=lambda row: -row.value)),
        total=float(by_state[number]),
        busiest=tuple((at, state_name(at), float(by_state[at])) for at in busiest if by_state[at]),
    )


def find_table(policy: Policy) -> RFMBandit | None:
    """Return the table that a policy answers by; None: it has none."""
    if isinstance(policy, ForgettingPolicy):
        policy = policy.answering
    return policy if isinstance(policy, RFMBandit) else None
