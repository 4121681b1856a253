"""`python -m rl.tune SEARCH.toml [--field value ...]`: search for hyper-parameters on Ray Tune by successive halving.

Prints the best trial's experiment as TOML that `rl.train` takes. A search that was killed goes on when the same command
is given again.
"""

import sys
from collections.abc import Sequence

from data.command import DONE, command
from data.private import keep_private
from data.settings import Settings
from rl.config import parse_config
from rl.training.tuning.search import Tuning


@command("rl.tune")
def main(arguments: Sequence[str]) -> int:
    """Run the command: progress on standard error, the best experiment as TOML on standard output."""
    tuning = parse_config(Tuning, arguments)
    keep_private(Settings().home)
    tuning.check()
    print(f"{tuning.name}: loading Ray Tune", file=sys.stderr, flush=True)
    from rl.training.tuning.tuning import tune  # ray takes seconds

    print(tune(tuning, Settings()), end="")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
