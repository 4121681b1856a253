"""An item as a product: its name, price, and picture, from its features in the catalogue; an icon where it has none."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

TINTS: Final = 6
_WORDS: Final = {
    "kitchen": "cooking-pot", "cook": "cooking-pot", "tableware": "utensils", "food": "utensils", "coffee": "coffee",
    "light": "lamp", "lamp": "lamp", "bulb": "lightbulb",
    "garden": "flower", "plant": "flower", "flower": "flower", "outdoor": "tent", "camping": "tent",
    "stationery": "pencil", "office": "briefcase", "bag": "briefcase", "book": "book-open",
    "toy": "toy-brick", "game": "play", "baby": "baby",
    "cloth": "shirt", "fashion": "shirt", "textile": "shirt", "jewel": "gem",
    "gift": "gift", "furniture": "armchair", "living": "sofa", "bed": "bed", "bath": "bath",
    "film": "film", "movie": "film", "music": "music",
}  # fmt: skip
"""Icons by a part of a kind's name."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a card shows."""

    item_id: str
    name: str
    kind: str | None
    price: float | None
    image: str | None
    icon: str
    """Of Lucide's; for where there is no picture."""
    tint: int
    """Which of `TINTS` colours stands behind it: the same for all items of a kind."""


def product(
    item_id: str, features: Mapping[str, Any], categories: Sequence[str], origins: Collection[str] = ()
) -> Product:
    """Return an item as a product.

    Args:
        item_id: the item.
        features: `name` (or `title`, `description`), `price`, `kind`, `image`; what is of another type is left out.
        categories: the first is its kind, where the features name none.
        origins: of which pictures are shown, beside the page's own.
    """
    name = next((text for key in ("name", "title", "description") if (text := _text(features.get(key)))), item_id)
    kind = _text(features.get("kind")) or next(iter(categories), None)
    price, image = features.get("price"), _text(features.get("image"))
    return Product(
        item_id,
        name,
        kind,
        float(price) if isinstance(price, int | float) and not isinstance(price, bool) else None,
        image if image and _is_allowed(image, origins) else None,
        _icon(kind or name),
        sum((kind or name).encode()) % TINTS,
    )


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _is_allowed(image: str, origins: Collection[str]) -> bool:
    """Say whether a browser would load a picture under the page's policy; others would be broken pictures."""
    if "\\" in image or not image.isprintable():
        return False
    try:
        parts = urlsplit(image)
    except ValueError:
        return False
    if not parts.scheme and not parts.netloc:
        return image.startswith("/")
    return f"{parts.scheme}://{parts.netloc}" in origins


def _icon(kind: str) -> str:
    lowered = kind.lower()
    return next((icon for word, icon in _WORDS.items() if word in lowered), "package")
