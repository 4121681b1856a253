"""Ids of decisions that their clients did not name."""

import os
from datetime import datetime


def new_id(now: datetime) -> str:
    """Return a new id, of 32 hexadecimal digits that grow with time: so the index of ids is written where it ends.

    Source: RFC 9562, section 5.7.
    """
    tail = int.from_bytes(os.urandom(10))
    return f"{int(now.timestamp() * 1_000):012x}7{tail >> 68:03x}{0x8 | tail >> 64 & 0x3:x}{tail & (1 << 60) - 1:015x}"
