"""Events as purchases: which of a node's columns say who took what when, by their roles.

A purchase is whatever users take: a piece that is bought, a song that is played, a film that is rated.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from data.errors import DataError
from data.nodes.node import NodeSpec, Role

NEEDED: tuple[Role, ...] = ("user", "item", "time")
"""Roles without which events do not say who took what when."""


def purchase_columns(node: NodeSpec) -> dict[str, str]:
    """Return under which names `purchase_lines` takes the columns of a node's events table, by these names.

    Raises:
        DataError: the node does not say who does what when.
    """
    lacking = [role for role in NEEDED if node.with_role(role) is None]
    if lacking:
        raise DataError(
            f"node {node.name} has no column with the role {', '.join(lacking)}: there is nothing to learn from events "
            f"without {', '.join(NEEDED)}"
        )
    known = [(role, node.with_role(role)) for role in ("session", "price", "amount")]
    own = ("event_id", "user_id", "item_id", "time", "outcome")
    return dict(zip(own, own, strict=True)) | {role: column.stored_name for role, column in known if column}


def purchase_lines(events: pa.Table) -> pd.DataFrame:
    """Return what users took, as a frame with user_id, item_id, time, session, price and amount.

    Events without a user, an item or a time are left out, and those whose outcome is not above 0: a return, a visit
    without a click.

    Args:
        events: columns user_id, item_id, time (UTC), and where there are any: outcome (pieces bought, a rating, or the
            like; default 1), session (default: the day), and price (of one piece) or amount (of them all). Without
            either the amount is the outcome, and no price is known.

    Raises:
        DataError: a column is missing, or no event is left.
    """
    needed, known = ["user_id", "item_id", "time"], ["outcome", "session", "price", "amount"]
    missing = [name for name in needed if name not in events.column_names]
    if missing:
        raise DataError(f"the events have no column {', '.join(missing)}; they have {', '.join(events.column_names)}")
    frame: pd.DataFrame = events.select([*needed, *(n for n in known if n in events.column_names)]).to_pandas()
    frame = frame.dropna(subset=needed).reindex(columns=[*needed, *known])
    frame["outcome"] = frame["outcome"].astype(np.float64).fillna(1.0)
    frame = frame[frame["outcome"] > 0]
    if frame.empty:
        raise DataError("no event has a user, an item, a time and an outcome above 0: there is nothing to fit on")
    alone = frame["session"].isna()
    frame["session"] = frame["session"].astype(object).mask(alone, frame["time"][alone].dt.strftime("day %Y-%m-%d"))
    price, amount = frame["price"].astype(np.float64), frame["amount"].astype(np.float64)
    price = price.fillna(amount / frame["outcome"])
    frame["price"] = price.where(price > 0)
    frame["amount"] = amount.fillna(frame["outcome"] * price.fillna(0.0 if price.notna().any() else 1.0))
    return frame
