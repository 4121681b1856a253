"""The customers that policies know from past purchases, with their segments."""

from typing import NamedTuple

from data.features.customers import Encoder
from data.features.rfm import SEGMENTS
from serve.decisions.recommender import Recommender


class Customer(NamedTuple):
    """Somebody who may visit."""

    user_id: str
    segment: str | None
    """By recency, frequency and monetary value; None: no policy has it."""


def list_customers(recommender: Recommender, contains: str, segment: str | None, limit: int) -> list[Customer]:
    """Return customers whose ids contain a text, of one segment or of any, in the order of the fitted data."""
    found = dict[str, Customer]()
    for name in recommender.names:
        encoder = recommender.artefact(name).encoder
        if not isinstance(encoder, Encoder):
            continue
        wanted = None if segment is None else SEGMENTS.index(segment) if segment in SEGMENTS else -1
        for place, user_id in enumerate(encoder.users, start=1):
            code = int(encoder.user_segments[place])
            if contains in user_id and (wanted is None or code == wanted) and user_id not in found:
                found[user_id] = Customer(user_id, SEGMENTS[code])
                if len(found) == limit:
                    return list(found.values())
    return list(found.values())


def segment_of(recommender: Recommender, user_id: str) -> str | None:
    """Return a customer's segment; None: no policy knows them."""
    for name in recommender.names:
        encoder = recommender.artefact(name).encoder
        if isinstance(encoder, Encoder) and (place := int(encoder.user_positions([user_id])[0])):
            return SEGMENTS[int(encoder.user_segments[place])]
    return None
