"""The board's rows: found, sorted, and a page of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rl.evaluation.board.items import Board
from serve.console.learning.drawing import Axis, find_axis, sparkline
from serve.explanations.boards import ItemEstimate

PAGE: Final = 25
_Z: Final = 1.959963984540054
SortKey = Literal["item", "share", "reward", "estimate"]


class Listing(BaseModel):
    """What of the board is to be seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    place: str = Field(default="", max_length=300)
    policy: str = Field(default="", max_length=200)
    search: str = Field(default="", max_length=200)
    sort: SortKey = "share"
    order: Literal["up", "down"] = "down"
    page: int = Field(default=1, ge=1, le=100_000)


class Row(NamedTuple):
    """An item of the board."""

    item: str
    share: float
    line: str
    """Of its share over time."""
    shown: int
    reward: float
    low: float | None
    high: float | None
    estimate: float | None
    estimate_low: float | None
    estimate_high: float | None


@dataclass(frozen=True)
class Rows:
    """A page of the board."""

    rows: tuple[Row, ...]
    axis: Axis
    """Of the whiskers."""
    found: int
    pages: int
    page: int
    limited: bool
    """Sorted by the policy's estimate: among the items that were shown most."""


def find_items(board: Board, search: str) -> list[int]:
    """Return the positions of the items whose ids have a text in them, the one that was shown most first."""
    text = search.strip().casefold()
    order = np.argsort(-board.share, kind="stable").tolist()
    return [at for at in order if text in board.items[at].casefold()] if text else order


def list_rows(
    board: Board, found: list[int], wanted: Listing, estimates: Mapping[str, ItemEstimate], most: int
) -> Rows:
    """Return a page of the rows that were found.

    Args:
        board: all rows.
        found: positions of those that were found, as `find_items` returns them.
        wanted: how they are sorted, and which page.
        estimates: of items by the policy; those that are not in it have none.
        most: of how many rows at most there are estimates, when they are sorted by them.
    """
    limited = wanted.sort == "estimate" and len(found) > most
    among = found[:most] if limited else found
    down = wanted.order == "down"

    def key(at: int) -> float:
        if wanted.sort == "share":
            return float(board.share[at])
        if wanted.sort == "reward":
            return float(board.rewards.value[at])
        known = estimates.get(board.items[at])
        return known.mean if known else (-math.inf if down else math.inf)

    if wanted.sort == "item":
        ordered = sorted(among, key=lambda at: board.items[at], reverse=down)
    else:
        ordered = sorted(among, key=key, reverse=down)
    pages = max(-(-len(ordered) // PAGE), 1)
    page = min(wanted.page, pages)
    shown = ordered[(page - 1) * PAGE : page * PAGE]
    over_time = board.share_over_time(np.array(shown, dtype=np.int64))
    rows = tuple(
        _row(board, at, sparkline(line), estimates.get(board.items[at]))
        for at, line in zip(shown, over_time, strict=True)
    )
    ends = [end for row in rows for end in (row.reward, row.low, row.high, row.estimate_low, row.estimate_high)]
    return Rows(rows, find_axis(ends), len(found), pages, page, limited)


def _row(board: Board, at: int, line: str, known: ItemEstimate | None) -> Row:
    half = _Z * known.sd if known and known.sd is not None else None
    return Row(
        item=board.items[at],
        share=float(board.share[at]),
        line=line,
        shown=round(float(board.rewards.count[at])),
        reward=float(board.rewards.value[at]),
        low=_finite(board.rewards.low[at]),
        high=_finite(board.rewards.high[at]),
        estimate=known.mean if known else None,
        estimate_low=known.mean - half if known and half is not None else None,
        estimate_high=known.mean + half if known and half is not None else None,
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
