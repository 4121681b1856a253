"""Answers as CSV, for clients that say `Accept: text/csv`."""

import csv
import io
from collections.abc import Iterable, Sequence

from fastapi import Request
from fastapi.responses import Response

from serve.contracts.decisions import RecommendResponse
from serve.contracts.learning import ServedPolicy

MEDIA_TYPE = "text/csv"
_SLOTS = ("decision_id", "slot", "item_id", "score", "propensity", "policy", "policy_version")


def is_wanted(request: Request) -> bool:
    """Return whether the client prefers CSV to JSON: whichever of the two `Accept` gives the larger weight."""
    accept = request.headers.get("accept", "")
    if accept in ("", "*/*"):  # most often
        return False
    weights = {MEDIA_TYPE: 0.0, "application/json": 0.0}
    for part in accept.split(","):
        media_type, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if media_type in weights:
            weights[media_type] = _weight(parameters)
    return weights[MEDIA_TYPE] > weights["application/json"]


def slates(responses: Iterable[RecommendResponse]) -> Response:
    """Return slates as a table with one row a slot, slots counted from 0."""
    return table(
        _SLOTS,
        (
            (
                response["decision_id"],
                slot,
                item["item_id"],
                item["score"],
                item["propensity"],
                response["policy"]["name"],
                response["policy"]["version"],
            )
            for response in responses
            for slot, item in enumerate(response["items"])
        ),
    )


def policies(served: Sequence[ServedPolicy]) -> Response:
    """Return what is served as a table."""
    columns = tuple(ServedPolicy.model_fields)
    return table(columns, ([row[name] for name in columns] for row in (p.model_dump(mode="json") for p in served)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Return a table with a header line, as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return Response(text.getvalue(), media_type=MEDIA_TYPE)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
