"""Calibration: whether what is predicted comes, in the mean over rows of like predictions."""

from dataclasses import dataclass

import numpy as np

from rl.policy.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Reliability:
    """A reliability table: rows in bins of about as many each, from the lowest to the highest prediction."""

    counts: IntArray
    """[m] rows of each bin."""
    predicted: FloatArray
    """[m] means of what was predicted of them."""
    observed: FloatArray
    """[m] means of what came."""

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean over the rows of how far their bins are off.

        Source: Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, equation 5.
        """
        return float(self.counts @ np.abs(self.observed - self.predicted) / self.counts.sum())


def measure_reliability(predicted: FloatArray, observed: FloatArray, bins: int = 10) -> Reliability:
    """Return the reliability table of predictions.

    Bins hold as many rows each, not ranges as wide: of click rates most are small. Rows of equal predictions are in the
    same bin, so that there may be fewer bins.

    Args:
        predicted: [n] probabilities, or rewards.
        observed: [n] what came; of a probability 0 or 1.
        bins: how many at most.

    Raises:
        ValueError: there are no rows, no bins, or not as many predictions as observations.
    """
    if not len(predicted) or predicted.shape != observed.shape or predicted.ndim != 1 or bins < 1:
        raise ValueError(
            f"calibration needs a bin and as many predictions as observations, one at least; got {bins} bins, "
            f"{predicted.shape} predictions and {observed.shape} observations"
        )
    edges = np.quantile(predicted, np.arange(1, bins) / bins)
    of_row = np.unique(np.searchsorted(edges, predicted, side="left"), return_inverse=True)[1]
    counts = np.bincount(of_row)
    return Reliability(counts, np.bincount(of_row, predicted) / counts, np.bincount(of_row, observed) / counts)
