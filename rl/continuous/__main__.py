"""`python -m rl.continuous SPEC.toml [--field value ...]`: train continuously, gate and promote. See rl/README.md."""

import json
import sys
import time
from collections.abc import Sequence

from data.command import AMISS, DONE, command, complain
from data.errors import RecommenderError
from data.private import keep_private
from data.settings import Settings
from rl.config import parse_config
from rl.continuous.pipeline import StepFailed, do_run
from rl.continuous.specification import ContinuousSpec

_LONGEST_S = 3_600.0  # between two attempts at a step that fails


@command("rl.continuous")
def main(arguments: Sequence[str]) -> int:
    """Run the command: progress on standard error, a JSON object of each run on standard output."""
    spec, settings = parse_config(ContinuousSpec, arguments), Settings()
    keep_private(settings.home)
    failed, looked = 0, False
    while True:
        try:
            found, failed, looked = do_run(spec, settings), 0, True
        except RecommenderError as error:
            if not (looked or isinstance(error, StepFailed)):
                raise  # what is wrong at the beginning does not pass by itself
            complain("rl.continuous", str(error))
            if spec.once:
                return AMISS
            failed += 1
        else:
            if found is not None:
                print(json.dumps(found), flush=True)
            elif spec.once:
                print(f"{spec.name}: no run is due", file=sys.stderr)
            if spec.once:
                return DONE
        time.sleep(min(spec.trigger.look_s * 2 ** min(failed, 10), max(spec.trigger.look_s, _LONGEST_S)))


if __name__ == "__main__":
    sys.exit(main())
