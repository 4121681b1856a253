"""`python -m rl.promote CHALLENGER`: let a challenger replace the champion, if the gate lets it through.

The log must show that it earns more than the champion, whoever else was tried and however often one looks; it must keep
what policies promise, answer about as fast, and be worse in no guarded segment and by no guardrail. Else nothing moves
and the exit status is 1: the report says why. --force REASON promotes it all the same, and the reason is then in the
report, in the registry and in the health of the service. A service that serves the alias follows within seconds.
"""

import sys
from collections.abc import Sequence

from threadpoolctl import threadpool_limits

from data.command import AMISS, DONE, argument_parser, command
from data.errors import DataError
from data.private import keep_private
from data.settings import Settings
from rl.promotions import promote
from rl.registry import CHAMPION
from rl.trials import add_options, find, read_spec, say, summarise, try_challengers


@command("rl.promote")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object on standard output."""
    parser = argument_parser("rl.promote", __doc__)
    parser.add_argument("challenger", help="a version or an alias of the registry")
    add_options(parser)
    parser.add_argument("--force", metavar="REASON", help="promote it whatever the gate says")
    options, settings = parser.parse_args(arguments), Settings()
    if options.force is not None and not options.force.strip():
        raise DataError("--force needs a reason")
    keep_private(settings.home)
    champion = find(settings, options.champion, options.model)
    challenger = find(settings, options.challenger, options.model)
    if challenger.version is None or champion.version is None:
        raise DataError("only versions of the registry can be promoted: python -m rl.registry register FOLDER")
    with threadpool_limits(1, "blas"):
        (tried,) = try_challengers(
            settings,
            champion,
            [challenger],
            read_spec(options),
            out=options.out,
            model=options.model,
            conform=True,
            forced=options.force,
        )
    assert tried.trial is not None, "it was tracked"
    through = tried.report.verdict.promote
    if through or options.force is not None:
        forced = None if through else options.force
        promote(settings, challenger.version, champion.version, tried.trial.run_id, forced, CHAMPION)
    say(summarise(tried) | {"promoted": through or options.force is not None, "forced": options.force})
    return DONE if through or options.force is not None else AMISS


if __name__ == "__main__":
    sys.exit(main())
