"""The people of a simulator, by its name and options."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from data.archive.parquet import read_events
from data.errors import DataError, RecommenderError
from data.nodes.node import load_node
from data.settings import Settings
from rl.simulators.registry import SIMULATORS, make
from serve.traffic.visits import People, people_of

NODE = "node:"
"""What the name of an input node begins with, where ratings are asked for."""
SHORT = {name.removeprefix("raycommend/").removesuffix("-v0").lower(): name for name in SIMULATORS}
"""Names of the command, for those of the registry."""
_LEAST_CUSTOMERS = 10  # of a generated market


def find_people(name: str, options: Mapping[str, Any], users: int, settings: Settings) -> People:
    """Return who visits.

    Args:
        name: one of `SHORT`, or as `rl.simulators.registry.make` takes it.
        options: of the simulator. `ratings` may be the path of a CSV file, or "node:NAME" for the ingested events of
            an input node, whose outcome is the rating.
        users: how many, where the simulator does not say who visits; of a generated market, its customers.
        settings: where ingested events are.

    Raises:
        DataError: there is no such simulator, or it does not fit a request.
    """
    wanted, given = SHORT.get(name.lower(), name), dict(options)
    try:
        if isinstance(ratings := given.get("ratings"), str):  # read once for all users
            of_node = ratings.startswith(NODE)
            given["ratings"] = _ingested(ratings.removeprefix(NODE), settings) if of_node else pd.read_csv(ratings)
        if wanted == SHORT["retail"] and "users" not in given.get("market", {}):
            given["market"] = {**given.get("market", {}), "users": max(_LEAST_CUSTOMERS, users)}
        one = partial(make, wanted, 1, **given)
        return people_of(one(), one, users)
    except (RecommenderError, ValueError, TypeError, OSError) as error:
        raise DataError(f"simulator {name}: {error}") from error


def _ingested(node: str, settings: Settings) -> pd.DataFrame:
    """Return ratings in the order of their times."""
    columns = {"user_id": "userId", "item_id": "movieId", "outcome": "rating", "time": "time"}
    events = read_events(settings.archive_uri, load_node(node)).to_table(columns=list(columns))
    if not events.num_rows:
        raise DataError(f"there are no events of node {node}: ingest some with data.ingest first")
    frame: pd.DataFrame = (
        events.to_pandas().rename(columns=columns).sort_values(["time", "userId", "movieId"], kind="stable")
    )
    for name in ("userId", "movieId"):  # ids that are numbers are ordered as such
        frame[name] = pd.to_numeric(frame[name])
    return frame
