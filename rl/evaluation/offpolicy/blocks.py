"""Logs that are larger than memory: Ray Data reads them, and of each decision two numbers more than its reward stay.

To an estimator a decision is what was chosen, against all else: how likely either is, and what is predicted of either.
So a log of any number of candidates becomes one of two, with the same estimates, intervals, support and selection but
for rounding, in 56 bytes a decision. What looks at single actions (`improvement`, `difference`) needs them all, and
bounds by `sequences` the order in which decisions came.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.policy.arrays import FloatArray

if TYPE_CHECKING:
    from ray.data import Dataset

COLUMNS = ("chosen", "reward", "propensity", "target", "predicted")
"""`target` and `predicted` are lists of as many numbers as the decision has candidates; see `log`."""


def condense(model: Predictions) -> Predictions:
    """Return the same decisions as such between two: what was chosen, and all else.

    Raises:
        EvaluationError: propensities were fitted: whether the fit is calibrated, all actions say.
    """
    log = model.log
    if log.weaker:
        raise EvaluationError("only logs whose propensities were logged can be condensed, not fitted ones")
    target, predicted = log.of_chosen(log.target), log.of_chosen(model.values)
    others = log.target.sum(axis=1) - target
    rest = np.divide(model.expected - target * predicted, others, out=np.zeros(len(log)), where=others > 0)
    of_two = BanditLog(
        np.zeros(len(log), np.int64), log.rewards, log.propensities, np.column_stack([target, np.maximum(others, 0.0)])
    )
    return Predictions(of_two, np.column_stack([predicted, rest]))


def condense_dataset(decisions: "Dataset") -> Predictions:
    """Return the decisions of a dataset as such between two, block by block, in the order in which blocks are done.

    Args:
        decisions: rows with COLUMNS; each predicted by a model that has not seen its reward, as one of earlier days.

    Raises:
        EvaluationError: a column is missing, there are no rows, or a value is none that it can have; see `BanditLog`.
    """
    names = decisions.columns() or []
    if missing := [name for name in COLUMNS if name not in names]:
        raise EvaluationError(f"decisions need the columns {', '.join(COLUMNS)}; there is no {', '.join(missing)}")
    condensed = decisions.select_columns(list(COLUMNS)).map_batches(_condense_batch, batch_format="numpy")
    parts: list[Any] = list(condensed.iter_batches(batch_size=None, batch_format="numpy"))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    log = BanditLog(
        np.zeros(len(columns["reward"]), np.int64), columns["reward"], columns["propensity"], columns["target"]
    )
    return Predictions(log, columns["predicted"])


def _condense_batch(batch: Any) -> Any:
    """Condense columns, a dictionary of arrays, which Ray's types do not know."""
    log = BanditLog(
        batch["chosen"].astype(np.int64),
        batch["reward"].astype(np.float64),
        batch["propensity"].astype(np.float64),
        _pad(batch["target"]),
    )
    model = condense(Predictions(log, _pad(batch["predicted"])))
    return {
        "reward": model.log.rewards,
        "propensity": model.log.propensities,
        "target": model.log.target,
        "predicted": model.values,
    }


def _pad(lists: FloatArray) -> FloatArray:
    """Return lists [n], of different lengths maybe, as an array [n, A], with zeros where one is shorter."""
    if lists.dtype != np.object_:
        return lists.astype(np.float64)
    lengths = np.array([len(one) for one in lists])
    padded = np.zeros((len(lists), lengths.max()))
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(lists)
    return padded
