"""`python -m rl.evaluate ARTEFACT... --since TIME`: rank held-out purchases by trained policies, beside popularity."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from data.errors import DataError
from data.features import Encoder, purchase_lines
from data.settings import Settings
from rl.artefact import Artefact, ArtefactError, load
from rl.experience import purchase_events
from rl.fold import encode
from rl.policies.baselines import Popularity
from rl.policy import Policy, PolicyError
from rl.ranking import hit_rate, ndcg

_CHUNK = 100  # customers encoded at a time; bounds memory


def rank(policy: Policy, encoder: Encoder, users: Sequence[str], times: Sequence[datetime], k: int) -> list[list[str]]:
    """Return each customer's k items of highest expected reward in the whole catalogue at the given time."""
    rankings: list[list[str]] = []
    for at in range(0, len(users), _CHUNK):
        chunk = users[at : at + _CHUNK]
        query = encode(chunk, times[at : at + _CHUNK], [encoder.items] * len(chunk), encoder)
        best = np.argsort(-policy.expected(query), axis=1, kind="stable")[:, :k]
        rankings += [[encoder.items[item] for item in row] for row in best]
    return rankings


def evaluate(policy: Policy, encoder: Encoder, held_out: pa.Table, k: int) -> dict[str, float]:
    """Score a policy on later purchases.

    A customer is asked about once, at his first held-out purchase; relevant is all that he bought from the catalogue
    in the held-out time, earlier favourites included. Customers unknown to the encoder count as well.

    Raises:
        DataError: nobody bought anything of the catalogue in the held-out time.
    """
    users, times, relevant = zip(*_customers(held_out, encoder), strict=True)
    rankings = rank(policy, encoder, users, times, k)
    scores = {f"hit_rate@{k}": hit_rate(rankings, relevant, k), f"ndcg@{k}": ndcg(rankings, relevant, k)}
    return {"customers": len(users), **scores}


def _customers(held_out: pa.Table, encoder: Encoder) -> Iterator[tuple[str, datetime, set[str]]]:
    purchases = purchase_lines(held_out)
    purchases = purchases[purchases["item_id"].isin(encoder.items)]
    if purchases.empty:
        raise DataError("nobody bought an item of the catalogue in the held-out time: choose an earlier --since")
    for user, lines in purchases.groupby("user_id"):
        yield str(user), pd.Timestamp(lines["time"].min()).to_pydatetime(), set(lines["item_id"])


def _unseen(artefact: Artefact, since: datetime) -> Artefact:
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


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no length; it must be at least 1")
    return int(text)


def _time(text: str) -> datetime:
    """Parse the time of `--since`; argparse turns the ValueError of another into its message."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset; write it like 2011-10-01T00:00:00Z")
    return time


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: one JSON object with a row for each artefact and one for popularity."""
    parser = argparse.ArgumentParser(prog="python -m rl.evaluate", description=__doc__)
    parser.add_argument("artefacts", nargs="+", type=Path, help="folders written by rl.train")
    parser.add_argument("--since", required=True, type=_time, help="held-out purchases start here")
    parser.add_argument("--node", default="online_retail")
    parser.add_argument("-k", type=_positive, default=10, help="length of the ranking (default: 10)")
    options = parser.parse_args(arguments)
    try:
        loaded = [_unseen(load(folder), options.since) for folder in options.artefacts]
        held_out = purchase_events(Settings(), options.node, since=options.since)
        rows = {artefact.name: evaluate(artefact.policy, artefact.encoder, held_out, options.k) for artefact in loaded}
        first = loaded[0].encoder
        rows["popularity"] = evaluate(Popularity(first.popularity), first, held_out, options.k)
    except (ArtefactError, DataError, PolicyError) as error:
        print(f"rl.evaluate: {error}", file=sys.stderr)
        return 2
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
