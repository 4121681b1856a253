"""Odd rules, rows, bodies, methods and paths."""

import gzip
from urllib.parse import quote

from tests.bench.hostility import values
from tests.bench.hostility.asks import Ask, events, recommend, spelled
from tests.bench.hostility.usual import ITEMS, asked
from tests.bench.hostility.values import Rng, pick

_CELLS = (values.number, values.beyond, values.text, values.odd_text, lambda rng: values.tree(rng, 2))
_PATHS = (
    "/v1/recommend", "/v1/items", "/healthz", "/v1/policy", "/", "/v1//x", "/.env", "/personalizer/v9/rank", "/docs",
)  # fmt: skip
_QUERIES = ("", "?after=-1", "?after=1e9", "?limit=0", "?a=%ff", "?limit=5")


def rules(rng: Rng) -> Ask:
    """Filters, pins, boosts and caps that contradict each other."""
    wished = {
        "pins": {f"odd-{rng.integers(ITEMS)}": int(rng.integers(0, 4))},
        "boosts": {f"odd-{rng.integers(ITEMS)}": pick(rng, (1e9, -1e9, 0.1, values.beyond(rng)))},
        "caps": {"kitchen": int(rng.integers(0, 2))},
    }
    excluded = [f"odd-{n}" for n in range(int(rng.integers(ITEMS)))]
    return recommend(asked(rng, rules=wished, exclude=excluded, filter={"exclude_seen": bool(rng.random() < 0.5)}))


def rows_of_nodes(rng: Rng) -> Ask:
    """Rows of an input node with values of other types, too many or too few columns."""
    row = {
        "InvoiceNo": "536365", "StockCode": "85123A", "Description": values.text(rng), "Quantity": 2, "UnitPrice": 2.55,
        "InvoiceDate": "2010-12-01T08:26:00", "CustomerID": int(rng.integers(1, 999)), "Country": "France",
    }  # fmt: skip
    for column in list(row):
        chance = rng.random()
        if chance < 0.05:
            del row[column]
        elif chance < 0.2:
            row[column] = pick(rng, _CELLS)(rng)
    return events({"node": "online_retail", "records": [row]})


def broken_bodies(rng: Rng) -> Ask:
    """JSON cut off, with bytes changed, with a byte order mark, compressed, as another type, or very long."""
    good = spelled(asked(rng, context={"page": values.text(rng)}))
    changed = bytearray(good)
    changed[int(rng.integers(len(good)))] = int(rng.integers(256))
    typed = {"content-type": "application/json"}
    as_other = {"content-type": pick(rng, ("text/plain", "application/xml", ""))}
    coded = {**typed, "content-encoding": pick(rng, ("br", "gzip", "x"))}
    sent = [
        (bytes(changed), typed),
        (good[: int(rng.integers(len(good)))], typed),
        (b"\xef\xbb\xbf" + good, typed),
        (gzip.compress(good), {**typed, "content-encoding": "gzip"}),
        (good, coded),
        (good, as_other),
    ]
    if rng.random() < 0.02:
        sent = [(b"[" + b"1," * 600_000 + b"1]", typed), (gzip.compress(b" " * 20_000_000 + b"{}"), coded)]
    body, headers = pick(rng, sent)
    return Ask("POST", "/v1/recommend", body, headers)


def swapped_types(rng: Rng) -> Ask:
    """A good body in which one value is any other JSON, or a field is new."""
    body = asked(rng, context={"page": "home"}, candidates=["odd-1", "odd-2"], exclude=[], explore=True)
    body[pick(rng, (*body, "unknown"))] = pick(rng, (lambda r: values.tree(r, 2), values.beyond))(rng)
    return recommend(body)


def other_routes(rng: Rng) -> Ask:
    """Methods and paths that are not there, odd queries, questions of browsers."""
    path, query = pick(rng, _PATHS), pick(rng, (*_QUERIES, f"?category={quote(values.text(rng))[:200]}"))
    method = pick(rng, ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST"))
    headers = {"origin": "https://shop.example", "access-control-request-method": "POST", "x-request-id": "odd id\t!"}
    return Ask(method, path + query, None, headers)
