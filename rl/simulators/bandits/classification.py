"""Any table with a class column as a bandit: name the class, learn only whether it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.bandits.contextual import ContextualBandit
from rl.simulators.batched import Info, Observation

EDIBLE, POISONED, P_POISONED = 5.0, -35.0, 0.5
LEAVE, EAT = 0, 1  # positions of the two arms of the mushroom rewards


class Classification(ContextualBandit):
    """The rows of a table, each to be answered with a class, of which one is right.

    Description: the rows come in a random order, each once a pass, then in a new order. A batch that the rest of a pass
        does not fill is filled up with the first rows of the next pass; `info["row"]` and `info["lap"]` tell which row
        of the table was answered in which pass (from 0), so a bench can stop after each row was answered once.
        With `rewards="mushroom"` the arms are 1, leave, and 2, eat.
    Observation space: `features` [1, D]: one-hot categories, standardised numbers and a constant 1, see `encode`;
        `items` [A], the classes in ascending order, from 1; `mask` [A], all on.
    Action space: the position of the class, 0 to A - 1.
    Reward: `plain`: 1 for the right class. `mushroom`: leave 0; eat 5, but if the row is of the class `poisonous`, -35
        with probability 1/2.
    Starting state: the next row. A reset with a seed begins a new pass; one without shows the unanswered rows again.
    Episode end: after each step.
    Information: `expected` and `best`, see `ContextualBandit`; `row` and `lap` [B].
    Ceilings: exact for a pass, by `ceilings()`. Plain: oracle 1, random 1 / A, best fixed arm the share of the largest
        class. Mushroom with share e edible: oracle 5 e, random 10 e - 7.5, fixed max(0, 20 e - 15). UCI's mushroom
        table has e = .5180: 2.590, -2.320, 0; statlog's shuttle, plain: 1, .1429, .7841; the generated table: 1, .3333,
        .3517.
    Options: `table`, a DataFrame, the path of a Parquet or CSV file, or None for a small generated one; `label`, its
        class column; `rewards`; `poisonous`.
    Source: mushroom rewards: Riquelme, Tucker and Snoek, "Deep Bayesian Bandits Showdown" (2018), appendix A.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        table: pd.DataFrame | str | Path | None = None,
        label: str = "class",
        rewards: Literal["plain", "mushroom"] = "plain",
        poisonous: Any = "p",
    ) -> None:
        frame = generated_table() if table is None else table if isinstance(table, pd.DataFrame) else read_table(table)
        if label not in frame:
            raise ValueError(f"the table has no class column {label!r}; it has {', '.join(map(str, frame.columns))}")
        labels = frame[label]
        if labels.isna().any():
            raise ValueError(f"class column {label!r} is empty in {int(labels.isna().sum())} of {len(frame)} rows")
        self.classes = tuple(sorted(labels.unique()))
        if len(self.classes) < 2:
            raise ValueError(f"class column {label!r} needs two classes, got {len(self.classes)}")
        self._contexts, self.columns = encode(frame.drop(columns=label))  # [N, D], [D]
        self._means = _means(labels, self.classes, rewards, poisonous)  # [N, A]
        self._poisoning = rewards == "mushroom"
        self._laps, self._order, self._next = -1, np.zeros(0, dtype=np.int64), 0
        low, high = self._contexts.min(axis=0), self._contexts.max(axis=0)
        low[-1] = 0.0  # the constant: bounds that differ
        super().__init__(num_envs, self._means.shape[1], low, high)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """See `BatchedEnv.reset`."""
        if seed is None and self._laps >= 0:
            return self._shown, {}
        self._laps, self._next = -1, len(self._order)
        return super().reset(seed=seed, options=options)

    def visit(self) -> tuple[FloatArray, FloatArray]:
        """See `ContextualBandit.visit`."""
        rows, laps = [], []
        missing = self.num_envs
        while missing:
            if self._next == len(self._order):
                self._laps, self._next = self._laps + 1, 0
                self._order = self.rng.permutation(len(self._contexts))
            part = self._order[self._next : self._next + missing]
            rows.append(part)
            laps.append(np.full(len(part), self._laps))
            self._next += len(part)
            missing -= len(part)
        self._row, self._lap = np.concatenate(rows), np.concatenate(laps)
        return self._contexts[self._row], self._means[self._row]

    def advance(self, actions: IntArray) -> tuple[FloatArray, np.ndarray, Info]:
        """See `BatchedEnv.advance`."""
        rewards, ended, info = super().advance(actions)
        return rewards, ended, info | {"row": self._row, "lap": self._lap}

    def earn(self, actions: IntArray, expected: FloatArray) -> FloatArray:
        """See `ContextualBandit.earn`."""
        if not self._poisoning:
            return expected
        poisoned = (expected < 0) & (self.rng.random(self.num_envs) < P_POISONED)
        return np.where(poisoned, POISONED, np.where(actions == EAT, EDIBLE, 0.0))

    def ceilings(self) -> dict[str, float]:
        """See `ContextualBandit.ceilings`."""
        by_arm = self._means.mean(axis=0)
        return {
            "oracle": float(self._means.max(axis=1).mean()),
            "random": float(by_arm.mean()),
            "fixed": float(by_arm.max()),
        }


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet file, or a CSV file with a header line."""
    return pd.read_parquet(path) if Path(path).suffix == ".parquet" else pd.read_csv(path)


def encode(frame: pd.DataFrame) -> tuple[FloatArray, IntArray]:
    """Encode columns as numbers, [N, D], and say which column each is of, [D], numbered from 0 without gaps.

    Numbers get mean 0 and variance 1, a missing one becomes the mean; everything else is one-hot, a missing value is a
    category of its own. Columns that are the same in every row are left out; a constant 1 comes last, as a column of
    its own.
    """
    frame = frame.dropna(axis="columns", how="all")
    parts = []
    for name in frame:
        column = frame[name]
        if is_numeric_dtype(column) and not is_bool_dtype(column):
            values = column.to_numpy(np.float64, na_value=np.nan, copy=True)
            values[np.isinf(values)] = np.nan
            spread = np.nanstd(values) or 1.0
            parts.append(np.nan_to_num((values - np.nanmean(values)) / spread)[:, None])
        else:
            codes, categories = pd.factorize(column, sort=True, use_na_sentinel=False)
            parts.append(np.eye(len(categories))[codes])
    parts.append(np.ones((len(frame), 1)))
    encoded = np.concatenate(parts, axis=1)
    varies = np.ptp(encoded, axis=0) > 0
    varies[-1] = True
    columns = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])[varies]
    return np.ascontiguousarray(encoded[:, varies]), np.unique(columns, return_inverse=True)[1]


def generated_table(rows: int = 600) -> pd.DataFrame:
    """Draw a small table, always the same: two numbers, a colour, and which of three classes they tell, most often."""
    rng = np.random.default_rng(0)
    size, weight = rng.standard_normal((2, rows))
    colour = rng.choice(["blue", "green", "red"], size=rows)
    score = size + (colour == "red") + 0.3 * rng.standard_normal(rows)
    kind = np.array(["a", "b", "c"])[np.digitize(score, [-0.3, 0.8])]
    return pd.DataFrame({"size": size, "weight": weight, "colour": colour, "class": kind})


def _means(labels: "pd.Series[Any]", classes: tuple[Any, ...], rewards: str, poisonous: Any) -> FloatArray:
    """Return the expected reward of every arm for every row, [N, A]."""
    if rewards == "plain":
        return np.eye(len(classes))[np.searchsorted(np.array(classes), labels.to_numpy())]
    if rewards != "mushroom":
        raise ValueError(f"rewards must be 'plain' or 'mushroom', got {rewards!r}")
    if poisonous not in classes:
        raise ValueError(f"no row is of the poisonous class {poisonous!r}; the classes are {classes}")
    means = np.zeros((len(labels), 2))
    eaten = P_POISONED * POISONED + (1 - P_POISONED) * EDIBLE
    means[:, EAT] = np.where(labels == poisonous, eaten, EDIBLE)
    return means
