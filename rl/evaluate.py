"""`python -m rl.evaluate ARTEFACT...`: what trained policies are worth.

Challengers are tried on the champion by what the service has logged (`--challenger POLICY`): a report of each as JSON
and as a page, with the verdict of the gate. `--again REPORT` derives a verdict anew from what a report was made of.

Policies of the service rank purchases that they have not seen (`--since TIME`), beside popularity. Policies that were
trained in a simulator play it without exploration (`--episodes N`), and what they earn is printed with its standard
error and with the simulator's ceilings. Everything is logged to MLflow.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from data.command import DONE, argument_parser, command
from data.errors import DataError
from data.features.purchases import purchase_lines
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load
from rl.artefacts.errors import ArtefactError
from rl.encoders.base import VisitEncoder
from rl.encoders.simulated import SimulatedEncoder
from rl.encoders.visit import Visit
from rl.evaluation.ranking import coverage, hit_rate, mean_average_precision, ndcg, novelty, precision, recall
from rl.evaluation.returns import play
from rl.experience.events import purchase_events
from rl.gate.files import argue_again
from rl.policies.baselines import Popularity
from rl.policies.greedy import Greedy
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.promotions import fetch_report
from rl.registry import resolve
from rl.training.run.environments import ceilings, environment
from rl.training.run.experiment import Environment
from rl.training.run.tracking import Tracker
from rl.trials import Tried, add_options, find, read_spec, say, summarise, try_challengers

_CHUNK = 100  # customers encoded at a time; bounds memory
_METRICS: Final = {
    "hit_rate": hit_rate,
    "precision": precision,
    "recall": recall,
    "map": mean_average_precision,
    "ndcg": ndcg,
}


def rank(
    policy: Policy, encoder: VisitEncoder, users: Sequence[str], times: Sequence[datetime], k: int
) -> list[list[str]]:
    """Return each customer's k items of highest expected reward in the whole catalogue at the given time."""
    rankings: list[list[str]] = []
    visits = [Visit(user, time, encoder.items) for user, time in zip(users, times, strict=True)]
    for at in range(0, len(visits), _CHUNK):
        query = encoder.query(visits[at : at + _CHUNK])
        best = np.argsort(-policy.expected(query), axis=1, kind="stable")[:, :k]
        rankings += [[encoder.items[item] for item in row] for row in best]
    return rankings


def evaluate(policy: Policy, encoder: VisitEncoder, held_out: pa.Table, k: int) -> dict[str, float]:
    """Score a policy on later purchases.

    A customer is asked about once, at their first held-out purchase; relevant is all they bought from the catalogue
    in the held-out time, earlier favourites included. Customers unknown to the encoder count as well.

    Raises:
        DataError: nobody bought anything of the catalogue in the held-out time.
    """
    users, times, relevant = zip(*_customers(held_out, encoder), strict=True)
    rankings = rank(policy, encoder, users, times, k)
    scores = {f"{name}@{k}": metric(rankings, relevant, k) for name, metric in _METRICS.items()}
    popularity = dict(zip(encoder.items, encoder.popularity[1:].tolist(), strict=True))
    shown = {
        f"coverage@{k}": coverage(rankings, popularity.keys(), k),
        f"novelty@{k}": novelty(rankings, popularity, k),
    }
    return {"customers": len(users), **scores, **shown}


def _customers(held_out: pa.Table, encoder: VisitEncoder) -> Iterator[tuple[str, datetime, set[str]]]:
    purchases = purchase_lines(held_out)
    purchases = purchases[purchases["item_id"].isin(encoder.items)]
    if purchases.empty:
        raise DataError("nobody bought an item of the catalogue in the held-out time: choose an earlier --since")
    for user, lines in purchases.groupby("user_id"):
        yield str(user), pd.Timestamp(lines["time"].min()).to_pydatetime(), set(lines["item_id"])


def _forget_held_out(artefact: Artefact, since: datetime) -> Artefact:
    """Return an artefact that has not seen the held-out purchases.

    Raises:
        DataError: it has.
    """
    last = artefact.trained_on.get("last_event")
    if not isinstance(last, str) or datetime.fromisoformat(last) >= since:
        raise DataError(
            f"{artefact.name} knows purchases until {last}, the held-out ones start at {since.isoformat()}: "
            "train it with --before that time"
        )
    return artefact


def in_simulator(
    artefact: Artefact, name: str | None, episodes: int, envs: int, seed: int
) -> dict[str, float | str | dict[str, float]]:
    """Play a simulator without exploration.

    Args:
        artefact: who plays.
        name: of the simulator; None: the one that the artefact was trained in, with the same options.
        episodes: how many at least.
        envs: how many at once.
        seed: of the simulator's draws.

    Raises:
        TrainingError: there is no such simulator, or it does not take the options.
        PolicyError: its observations are not what the policy was trained for.
    """
    assert artefact.environment is not None, "it was trained in one"
    own = artefact.environment.name
    options = artefact.environment.options if name in (None, own) else {}
    env = environment(Environment(name=name or own, options=options), min(envs, episodes))
    shown, wanted = SimulatedEncoder.of(env.single_observation_space), SimulatedEncoder.like(artefact.encoder)
    if shown != wanted:
        raise PolicyError(f"{name} shows {_sizes(shown)}, {artefact.name} was trained for {_sizes(wanted)}")
    returns = play(Greedy(artefact.policy), env, episodes, seed, np.random.default_rng(seed))
    return {
        "environment": name or own,
        "episodes": len(returns.of_episodes),
        "return": returns.mean,
        "standard_error": returns.standard_error,
        "ceilings": ceilings(env),
    }


def _sizes(encoder: SimulatedEncoder) -> str:
    return f"{encoder.n_items} items, {encoder.n_features} features and {encoder.n_states} states"


def _evaluate_served(artefacts: Sequence[Artefact], options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Return a row for each artefact, and one for popularity."""
    loaded = [_forget_held_out(artefact, options.since) for artefact in artefacts]
    held_out = purchase_events(settings, options.node, since=options.since)
    rows = {artefact.name: evaluate(artefact.policy, artefact.encoder, held_out, options.k) for artefact in loaded}
    first = loaded[0].encoder
    return rows | {"popularity": evaluate(Popularity(first.popularity), first, held_out, options.k)}


def _evaluate_simulated(artefacts: Sequence[Artefact], options: argparse.Namespace) -> dict[str, Any]:
    return {
        artefact.name: in_simulator(artefact, options.environment, options.episodes, options.envs, options.seed)
        for artefact in artefacts
    }


def _rows(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Evaluate all artefacts alike.

    Raises:
        ArtefactError: some are of the service and some are not, or options of the other sort were given.
    """
    loaded = [load(folder) for folder in options.artefacts]
    served = [artefact for artefact in loaded if artefact.environment is None]
    simulated = [artefact for artefact in loaded if artefact.environment is not None]
    if served and simulated:
        names = ", ".join(artefact.name for artefact in simulated)
        raise ArtefactError(f"{names} can only play a simulator, {served[0].name} can only rank: evaluate them apart")
    if simulated and options.since:
        raise ArtefactError(f"{simulated[0].name} was trained in a simulator and has no catalogue: leave --since out")
    if served and not options.since:
        raise ArtefactError(f"{served[0].name} ranks purchases: say with --since from when on it has not seen them")
    return _evaluate_served(served, options, settings) if served else _evaluate_simulated(simulated, options)


def _try_challengers(options: argparse.Namespace, settings: Settings) -> Sequence[Tried]:
    """Try the challengers that are named on the champion."""
    champion, *challengers = (find(settings, one, options.model) for one in (options.champion, *options.challenger))
    with threadpool_limits(1, "blas"):
        return try_challengers(
            settings,
            champion,
            challengers,
            read_spec(options),
            out=options.out,
            model=options.model,
            track=options.track,
        )


def _argue_again(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Derive the verdict of a report anew."""
    if (folder := Path(options.again)).is_dir():
        return argue_again(folder).model_dump()
    with fetch_report(settings, resolve(settings, options.again, options.model)) as folder:
        return argue_again(folder).model_dump()


def _track(rows: Mapping[str, Mapping[str, Any]], options: argparse.Namespace, settings: Settings) -> None:
    """Log a run for each row, in the experiment of the policy's name."""
    asked = {name: str(value) for name, value in vars(options).items() if name not in ("artefacts", "track")}
    for name, row in rows.items():
        numbers = {key.replace("@", "_at_"): value for key, value in row.items() if isinstance(value, int | float)}
        with Tracker(settings, name, asked, name=f"evaluate {name}") as tracker:
            tracker.log(0, numbers)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no length; it must be at least 1")
    return int(text)


def _several(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} says nothing of the error of a mean; it must be at least 2")
    return int(text)


def _time(text: str) -> datetime:
    """Parse the time of `--since`; argparse turns the ValueError of another into its message."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset; write it like 2011-10-01T00:00:00Z")
    return time


@command("rl.evaluate")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object with a row for each artefact."""
    parser = argument_parser("rl.evaluate", __doc__)
    parser.add_argument("artefacts", nargs="*", type=Path, help="folders written by rl.train")
    trying = parser.add_argument_group("challengers beside the champion, by the log")
    trying.add_argument(
        "--challenger",
        metavar="POLICY",
        action="append",
        default=[],
        help="a folder, or of the registry; several times",
    )
    add_options(trying)
    trying.add_argument("--again", metavar="REPORT", help="a report's folder, or the version that it promoted")
    ranking = parser.add_argument_group("policies of the service")
    ranking.add_argument("--since", type=_time, help="held-out purchases start here")
    ranking.add_argument("--node", default="online_retail")
    ranking.add_argument("-k", type=_positive, default=10, help="length of the ranking (default: 10)")
    playing = parser.add_argument_group("policies trained in a simulator")
    playing.add_argument("--environment", help="another simulator than the one it was trained in")
    playing.add_argument("--episodes", type=_several, default=20_000, help="to play (default: 20000)")
    playing.add_argument("--envs", type=_positive, default=500, help="played at once (default: 500)")
    playing.add_argument("--seed", type=int, default=1_000_000, help="of the simulator (default: 1000000)")
    parser.add_argument("--no-track", dest="track", action="store_false", help="do not log to MLflow")
    options, settings = parser.parse_args(arguments), Settings()
    keep_private(settings.home)
    if (options.again is not None) + bool(options.challenger) + bool(options.artefacts) != 1:
        parser.error("give artefacts, or challengers, or a report")
    if not options.artefacts and (options.since or options.environment):
        parser.error("--since and --environment are of artefacts; for challengers `since` stands in the file of --gate")
    if not options.challenger and (options.gate or options.out):
        parser.error("--gate and --out are of challengers")
    if options.again is not None:
        say(_argue_again(options, settings))
        return DONE
    if options.challenger:
        say([summarise(tried) for tried in _try_challengers(options, settings)])
        return DONE
    with threadpool_limits(1, "blas"):
        rows = _rows(options, settings)
    print(json.dumps(rows), flush=True)
    if options.track:
        _track(rows, options, settings)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
