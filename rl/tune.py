"""`python -m rl.tune SEARCH.toml [--field value ...]`: search for hyper-parameters on Ray Tune by successive halving.

Prints the best trial's experiment as TOML that `rl.train` takes. A search that was killed goes on when the same command
is given again.
"""

import sys
from collections.abc import Sequence

from data.private import keep_private
from data.settings import Settings
from rl.config import load
from rl.policy.interface import PolicyError
from rl.training.run.errors import TrainingError
from rl.training.tuning.search import Tuning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: progress on standard error, the best experiment as TOML on standard output."""
    tuning = load(Tuning, sys.argv[1:] if arguments is None else arguments)
    keep_private(Settings().home)
    try:
        tuning.check()
        print(f"{tuning.name}: loading Ray Tune", file=sys.stderr, flush=True)
        from rl.training.tuning.tuning import tune  # ray takes seconds

        best = tune(tuning, Settings())
    except (PolicyError, TrainingError) as error:
        print(f"rl.tune: {error}", file=sys.stderr)
        return 2
    print(best, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
