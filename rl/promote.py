"""`python -m rl.promote CHALLENGER`: let a challenger replace the champion, if the gate lets it through.

The log must show that it earns more than the champion, whoever else was tried and however often one looks; it must keep
what policies promise, answer about as fast, and be worse in no guarded segment and by no guardrail. Else nothing moves
and the exit status is 1: the report says why. --force REASON promotes it all the same, and the reason is then in the
report, in the registry and in the health of the service; so also where there is no log yet, or the champion's files are
gone. A service that serves the alias follows within seconds.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from data.command import AMISS, DONE, argument_parser, command
from data.errors import DataError
from data.log.errors import StoreMissing
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.errors import ArtefactError
from rl.promotions import promote
from rl.registry import CHAMPION, RegisteredPolicy, RegistryError, resolve
from rl.trials import Named, Tried, add_options, find, force_unseen, read_spec, say, summarise, try_challengers


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
    champion = resolve(settings, options.champion, options.model)
    challenger = find(settings, options.challenger, options.model)
    if challenger.version is None:
        raise DataError("only versions of the registry can be promoted: python -m rl.registry register FOLDER")
    if (now := resolve(settings, CHAMPION, options.model)) != champion:
        raise DataError(
            f"version {now.version} is the champion, which {options.champion} is not: rl.evaluate compares with others"
        )
    tried = _try(settings, champion, challenger, options)
    assert tried.trial is not None, "it was tracked"
    through = tried.report.verdict.promote
    if through or options.force is not None:
        promote(settings, challenger.version, champion, tried.trial.run_id, tried.report.forced, CHAMPION)
    say(summarise(tried) | {"promoted": through or options.force is not None, "forced": options.force})
    return DONE if through or options.force is not None else AMISS


def _try(settings: Settings, champion: RegisteredPolicy, challenger: Named, options: argparse.Namespace) -> Tried:
    """Try a challenger on the champion; by force also where there is nothing to try it on."""
    spec, forced = read_spec(options), options.force
    try:
        named = find(settings, str(champion.version), options.model)
    except (ArtefactError, RegistryError) as error:  # its files are gone, or not what was registered
        if forced is None:
            raise
        return force_unseen(settings, champion, challenger, spec, f"the champion: {error}", forced, options.out)
    given: Any = {"out": options.out, "model": options.model, "conform": True, "forced": forced}
    try:
        with threadpool_limits(1, "blas"):
            return try_challengers(settings, named, [challenger], spec, **given)[0]
    except StoreMissing as error:
        if forced is None:
            raise
        return force_unseen(settings, champion, challenger, spec, str(error), forced, options.out)


if __name__ == "__main__":
    sys.exit(main())
