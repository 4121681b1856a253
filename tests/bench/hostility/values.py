"""Values that people and programs send without asking: odd text, large numbers, nested and broken JSON. Seeded."""

from typing import Any

import numpy as np

Rng = np.random.Generator

LARGEST = 1e15
"""The largest absolute value that a feature may have."""
_TEXTS = (
    "", " ", "jazz", "rock & roll", "näher", "日本語のタグ", "标签", "🛒", "e\u0301", "\u202ertl", "a" * 300,
    "x" * 5_000, "null", "NaN", "-1", "1e999", "true", "a=b|c:d", "<script>alert(1)</script>", "'; DROP TABLE x; --",
    "../../etc/passwd", "%00", "${x}", "\\", '"', "|", ":", ".", "$ref", "__proto__", "time", "id", "slot",
)  # fmt: skip
TIMES = ("2026-11-28T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "noon", 5)
"""What is sent as a time."""
_CONTROLS = ("\n", "a\nb", "a\r\nb", "\x00", "a\x00b", "\x1b[31m", "\x7f", "\u2028", "\ufeff", "\x85")
_HALVES = ("\ud800", "a\udfff", "\udc80\ud800")
_HONEST = (0, 1, -1, 0.1, 3, 1e-9, 19.99, 86_400, 1_767_225_600, 1_767_225_600_123, 1e9, -2e12, 2**53, 1e15, -1e15)
_BEYOND = (1.0000000000000002e15, 1e16, -(2**63), 2**64, 10**20, 1e100, -1e300, 1.7e308, 10**400, -(10**400))
_NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))


def pick(rng: Rng, values: Any) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def text(rng: Rng) -> str:
    """Return text that is valid Unicode."""
    return str(pick(rng, _TEXTS))


def odd_text(rng: Rng) -> str:
    """Return text with control characters, or with half characters that UTF-8 cannot say."""
    return str(pick(rng, _CONTROLS if rng.random() < 0.6 else _HALVES))


def number(rng: Rng) -> float | int:
    """Return a number that may be a feature."""
    if rng.random() < 0.5:
        return pick(rng, _HONEST)  # type: ignore[no-any-return]
    return float(rng.choice((-1.0, 1.0)) * 10.0 ** rng.uniform(-300, 15))


def beyond(rng: Rng) -> float | int:
    """Return a number that may not: too large, or none at all."""
    return pick(rng, _BEYOND if rng.random() < 0.8 else _NO_NUMBERS)  # type: ignore[no-any-return]


def scalar(rng: Rng) -> Any:
    """Return a number, text, truth value or null."""
    return (number(rng), text(rng), bool(rng.random() < 0.5), None)[int(rng.integers(4))]


def tree(rng: Rng, depth: int) -> Any:
    """Return any JSON, at most so deep."""
    shape = rng.integers(4) if depth > 0 else 0
    if shape == 2:
        return [tree(rng, depth - 1) for _ in range(rng.integers(4))]
    if shape == 3:
        return {text(rng)[:40] or "n": tree(rng, depth - 1) for _ in range(rng.integers(4))}
    return scalar(rng)


def features(rng: Rng) -> dict[str, Any]:
    """Return a few features as a shop has them: scalars, tags, embeddings, nested objects."""
    found: dict[str, Any] = {"price": number(rng), "kind": text(rng)}
    found["tags"] = [text(rng) for _ in range(rng.integers(4))]
    if rng.random() < 0.5:
        found["embedding"] = [float(value) for value in rng.standard_normal(4)]
    if rng.random() < 0.5:
        found["more"] = tree(rng, 3)
    return found


def deep(levels: int, inner: Any, lists: bool) -> Any:
    """Return a value within so many objects, or lists."""
    for _ in range(levels):
        inner = [inner] if lists else {"d": inner}
    return inner


def name(rng: Rng) -> str:
    """Return an id as clients have them, most of which may be used."""
    return (
        f"user-{rng.integers(200)}",
        str(rng.integers(10**18, 2**63 - 1)),
        "".join(map(chr, rng.integers(0x20, 0x2FF, size=rng.integers(1, 20)).tolist())),
        text(rng),
        odd_text(rng),
        "i" * int(rng.choice((255, 256, 257, 320, 321, 5_000))),
    )[int(rng.integers(6))]
