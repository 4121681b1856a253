"""Whether two bodies say the same as JSON: neither the order of keys nor how a number is spelt counts."""

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_WHOLE = re.compile(r"\.0(?!\d)|e\+")
"""What Python writes where a float is a whole number; texts may have it too."""
_DIGEST_BYTES = 6


def canonical(value: Any) -> str:
    """Return JSON text that two values share if, and only if, they are the same JSON: `1` is `1.0` and not `true`."""
    text = _ENCODER.encode(value)
    return _ENCODER.encode(_whole(value)) if _WHOLE.search(text) else text


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same JSON."""
    return canonical(one) == canonical(other)


def digests(fields: Mapping[str, Any]) -> str:
    """Return a digest of each field, as `name:digest` with spaces between: enough to tell a retry from a mistake."""
    return " ".join([f"{name}:{_digest(canonical(value))}" for name, value in fields.items()])


def differing(one: str, other: str) -> list[str]:
    """Return the names that two texts of `digests` do not share, or have with other digests."""
    first, second = ({tuple(part.split(":")) for part in text.split()} for text in (one, other))
    return sorted({name for name, _ in first ^ second})


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _whole(value: Any) -> Any:
    """Write floats that are whole numbers as integers, as deep as they lie."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _whole(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_whole(inner) for inner in value]
    return value
