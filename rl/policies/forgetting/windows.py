"""Which windows of the log there are when it has come to a position.

A window of length E begins at a multiple of E and is dropped when two more have passed, so it holds the last E to 2E
positions once the next has begun beside it. Where windows begin is a function of the position alone: whoever learns the
same rows has the same windows, whatever the order in which they came. The one that answers is kept beside them, and
which one that is depends on the order too.
"""

from collections.abc import Sequence

from rl.policies.forgetting.config import RATIO, Forgetting

WHOLE = 0
"""Where the window begins that is the whole log."""


def lengths(config: Forgetting) -> list[int]:
    """Return the length E of each rate's windows, the shortest first."""
    return [config.shortest * RATIO**rate for rate in range(config.rates)]


def most(config: Forgetting) -> int:
    """Return how many windows there are at most, beside the whole log: two of each rate, and a longer one."""
    return 2 * config.rates + 1


def beginnings(config: Forgetting, position: int) -> list[int]:
    """Return where the older of each rate's windows begins at a position; `WHOLE` where there is none yet."""
    return [max(position // length - 1, 0) * length for length in lengths(config)]


def kept(config: Forgetting, position: int) -> Sequence[int]:
    """Return where the windows begin that are learned on at a position, in order: the older ones, and the next ones."""
    following = [position // length * length for length in lengths(config)]
    return sorted({WHOLE, *beginnings(config, position), *following})
