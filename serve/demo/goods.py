"""What the demo's items are called, for people who look at its shop."""

from collections import Counter
from typing import Final

import pyarrow as pa

from data.archive.parquet import read_events
from data.log.current.items import Item
from data.nodes.node import load_node
from data.settings import Settings
from rl.simulators.market.market import Market

_GOODS: Final = {
    "kitchen": (
        "Copper saucepan", "Enamel casserole", "Olive wood board", "Salt and pepper mill", "Linen tea towel",
        "Cast iron skillet", "Measuring spoons", "Glass storage jar", "Pasta tongs", "Bread tin",
    ),
    "lighting": (
        "Brass desk lamp", "Paper lantern", "Candle lantern", "String of fairy lights", "Ceramic table lamp",
        "Reading light", "Storm lamp", "Pendant shade", "Night light", "Garden lantern bulb",
    ),
    "garden": (
        "Terracotta pot", "Hand trowel", "Herb seeds", "Watering can", "Bird feeder",
        "Pruning shears", "Plant hanger", "Bamboo stakes", "Kneeling mat", "Seed tray",
    ),
    "stationery": (
        "Dotted notebook", "Fountain pen", "Wrapping paper", "Set of pencils", "Letter opener",
        "Wall calendar", "Sealing wax", "Postcard set", "Desk tidy", "Address book",
    ),
    "toys": (
        "Wooden train", "Building blocks", "Spinning top", "Rag doll", "Kite",
        "Marble run", "Jigsaw of the sea", "Tin robot", "Skipping rope", "Finger puppets",
    ),
    "textiles": (
        "Wool blanket", "Quilted cushion", "Striped apron", "Cotton throw", "Patchwork bag",
        "Knitted scarf", "Linen napkins", "Door stop hare", "Hot water bottle cover", "Bath mat",
    ),
}  # fmt: skip
"""Ten names of each kind."""
_WORDS: Final = {
    "lighting": ("LIGHT", "LAMP", "LANTERN", "CANDLE"),
    "kitchen": ("MUG", "CUP", "TEA", "CAKE", "BOWL", "PLATE", "JAR", "TIN", "KITCHEN", "BAKING", "LUNCH"),
    "garden": ("GARDEN", "PLANT", "FLOWER", "BIRD", "HERB"),
    "stationery": ("CARD", "PAPER", "PENCIL", "NOTEBOOK", "WRAP", "CHALK", "RIBBON"),
    "toys": ("TOY", "DOLL", "GAME", "PUPPET", "CHILDREN", "DINOSAUR", "SPACEBOY"),
    "bags": ("BAG", "PURSE", "BACKPACK"),
    "textiles": ("CUSHION", "BLANKET", "APRON", "TOWEL", "QUILT"),
    "gifts": ("GIFT", "HEART", "CHRISTMAS", "SET"),
}
"""What descriptions of the real transactions have in them, by kind; the first that fits counts."""


def name_goods(market: Market) -> list[Item]:
    """Return a generated market's items, named by their kind; beyond ten of a kind they are numbered."""
    kinds, counts = tuple(_GOODS), Counter[int]()
    assert market.kinds is not None, "a generated market knows them"
    goods = []
    for item, kind, price in zip(market.items, market.kinds.tolist(), market.prices.tolist(), strict=True):
        names, number = _GOODS[kinds[kind % len(kinds)]], counts[kind]
        series, place = divmod(number, len(names))
        name = names[place] if not series else f"{names[place]} {series + 1}"
        counts[kind] += 1
        goods.append(_item(item, name, kinds[kind % len(kinds)], price))
    return goods


def describe_goods(market: Market, settings: Settings, node: str) -> list[Item]:
    """Return a fitted market's items by the descriptions that most of their ingested transactions have."""
    events: pa.Table = read_events(settings.archive_uri, load_node(node)).to_table(columns=["item_id", "description"])
    counted = events.group_by(["item_id", "description"]).aggregate([([], "count_all")]).to_pylist()
    best = dict[str, tuple[int, str]]()
    for row in counted:
        if row["item_id"] and row["description"]:
            best[row["item_id"]] = max(best.get(row["item_id"], (0, "")), (row["count_all"], row["description"]))
    return [
        _item(item, best.get(item, (0, item))[1].strip().capitalize(), _kind(best.get(item, (0, ""))[1]), price)
        for item, price in zip(market.items, market.prices.tolist(), strict=True)
    ]


def _kind(description: str) -> str:
    words = description.upper()
    return next((kind for kind, signs in _WORDS.items() if any(sign in words for sign in signs)), "other")


def _item(item_id: str, name: str, kind: str, price: float) -> Item:
    features = {"name": name, "kind": kind, "price": round(price, 2)}
    return Item(item_id=item_id, features=features, categories=(kind,))
