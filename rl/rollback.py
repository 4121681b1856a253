"""`python -m rl.rollback`: let the champion be again what it was before the last promotion.

A service that serves the alias follows within seconds. Given again, the command takes the promotion before back.
"""

import sys
from collections.abc import Sequence

from data.command import DONE, argument_parser, command
from data.private import keep_private
from data.settings import Settings
from rl.promotions import roll_back
from rl.registry import CHAMPION, MODEL
from rl.trials import say


@command("rl.rollback")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object on standard output."""
    parser = argument_parser("rl.rollback", __doc__)
    parser.add_argument("--model", default=MODEL, help=f"MLflow's registered model (default: {MODEL})")
    parser.add_argument("--alias", default=CHAMPION, help=f"of the version that is served (default: {CHAMPION})")
    options, settings = parser.parse_args(arguments), Settings()
    keep_private(settings.home)
    was, now = roll_back(settings, options.model, options.alias)
    say({"model": options.model, "alias": options.alias, "was": was, "now": now})
    return DONE


if __name__ == "__main__":
    sys.exit(main())
