"""What a transitions table must have, and what its values may be."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from data.errors import DataError
from rl.policy.arrays import BoolArray
from rl.policy.queries import AGE, ITEM, N_OUTCOMES, OUTCOME

Columns = dict[str, np.ndarray]

NEXT = "next_"
"""Prefix of the next observation's columns."""
SEEN = ("items", "mask", "history", "features")
"""What the policy saw, as in `rl.policy.queries.Query`."""
CHOSEN, WEIGHTS = "chosen", "weights"
"""Columns [N] that not every table has: the slot of the user's choice, or -1 for nothing; how much a row counts."""
ROWS = (CHOSEN, WEIGHTS)
_NEEDED = ("items", "mask", "actions", "propensities", "rewards")


def check_names(names: Iterable[str], path: str) -> None:
    """Check that no column is missing; with discounts the next observation is needed too.

    Raises:
        DataError: one is missing; says which.
    """
    names = list(names)
    after = [NEXT + name for name in SEEN if name in names] if "discounts" in names else []
    missing = [name for name in (*_NEEDED, *after) if name not in names]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")


def list_needed(names: Iterable[str]) -> list[str]:
    """Return which of a table's columns learning reads."""
    known = {*_NEEDED, *SEEN, "discounts", *ROWS, *(NEXT + name for name in SEEN)}
    return [name for name in names if name in known]


def check_shapes(shapes: Mapping[str, tuple[int, ...]], path: str) -> None:
    """Check that the shapes of one row of the needed columns go together.

    Raises:
        DataError: one does not; says which.
    """
    for prefix in ("", NEXT):
        if prefix + "items" not in shapes:
            continue
        candidates = shapes[prefix + "items"]
        rules = {
            "items": ("[A]", len(candidates) == 1),
            "mask": ("as long as items", shapes[prefix + "mask"] == candidates),
            "history": ("[T, 3]", shapes.get(prefix + "history", (1, 3))[1:] == (3,)),
            "features": ("[A, F] or [1, F]", shapes.get(prefix + "features", (1, 1))[:-1] in ((1,), candidates)),
        }
        for name, (right, holds) in rules.items():
            if not holds:
                raise DataError(f"{path}: {prefix}{name} must be {right}, a row is {list(shapes[prefix + name])}")
    if len(shapes["actions"]) != 1 or shapes["propensities"] != shapes["actions"]:
        found = f"{list(shapes['actions'])} and {list(shapes['propensities'])}"
        raise DataError(f"{path}: actions and propensities must both be [K], a row is {found}")
    for name in ("rewards", "discounts", *ROWS):
        if shapes.get(name):
            raise DataError(f"{path}: {name} must be a number, a row is {list(shapes[name])}")


def check(parts: Iterable[Columns], path: str) -> None:
    """Check the values of a table that comes in parts.

    Raises:
        DataError: values are wrong; says which, in how many rows, and the first of them.
    """
    rows, found = 0, dict[str, list[int]]()
    for columns in parts:
        for rule, wrong in _wrong(columns):
            if wrong.any():
                found.setdefault(rule, [0, rows + int(wrong.argmax())])[0] += int(wrong.sum())
        rows += len(columns["rewards"])
    if found:
        faults = [f"{rule} in {count} of {rows} rows (first: row {first})" for rule, (count, first) in found.items()]
        raise DataError(f"{path}: {'; '.join(faults)}")


def _wrong(columns: Columns) -> Iterator[tuple[str, BoolArray]]:
    """Yield what may be wrong, with the rows [N] where it is."""
    flat = {name: column.reshape(len(column), -1) for name, column in columns.items()}
    p, mask, actions = flat["propensities"], flat["mask"], flat["actions"]
    yield "propensities must be in (0, 1] and are not", _any(~((p > 0) & (p <= 1)))
    outside = (actions < 0) | (actions >= mask.shape[1])
    allowed = np.take_along_axis(mask, np.where(outside, 0, actions), axis=1).astype(np.bool_)
    yield "actions must be positions where the mask is on and are not", _any(outside | ~allowed)
    yield "rewards must be finite and are not", _any(~np.isfinite(flat["rewards"]))
    if CHOSEN in columns:
        outside = (columns[CHOSEN] < -1) | (columns[CHOSEN] >= actions.shape[1])
        yield f"{CHOSEN} must be a slot or -1 and is not", outside
    if WEIGHTS in columns:
        yield (
            f"{WEIGHTS} must be finite and at least 0 and are not",
            ~(np.isfinite(columns[WEIGHTS]) & (columns[WEIGHTS] >= 0)),
        )
    if "discounts" in columns:
        discounts, after = flat["discounts"], flat[NEXT + "mask"].astype(np.bool_)
        yield "discounts must be in [0, 1] and are not", _any(~((discounts >= 0) & (discounts <= 1)))
        stuck = (discounts > 0) & ~_any(after)[:, None]
        yield f"{NEXT}mask must be on somewhere where the discount is not 0 and is not", _any(stuck)
    for prefix in ("", NEXT):
        if (items := flat.get(prefix + "items")) is not None:
            yield f"{prefix}items must be at least 0 and are not", _any(items < 0)
        if (history := columns.get(prefix + "history")) is not None:
            outcomes = history[:, :, OUTCOME]
            wrong = (history[:, :, ITEM] < 0) | (history[:, :, AGE] < 0) | (outcomes < 0) | (outcomes >= N_OUTCOMES)
            yield f"{prefix}history must be of items, outcomes below {N_OUTCOMES} and ages and is not", _any(wrong)
        if (features := flat.get(prefix + "features")) is not None:
            yield f"{prefix}features must be finite and are not", _any(~np.isfinite(features))


def _any(wrong: BoolArray) -> BoolArray:
    """Return which rows [N] have any of [N, M]."""
    rows: BoolArray = np.any(wrong, axis=1)
    return rows
