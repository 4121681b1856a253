"""cluster.yaml, as it stands and with the edits that serve/CLUSTER.md shows."""

import re
from pathlib import Path
from typing import Any, Final, Literal

import yaml

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "cluster.yaml"
PAGE: Final = ROOT / "serve" / "CLUSTER.md"
Where = Literal["aws", "spot", "local", "gcp"]
_SPOT: Final = "# InstanceMarketOptions:"


def read(where: Where = "aws") -> dict[str, Any]:
    """Return the file for a place: as it is on AWS, with the switch to spot workers, or with the edits for another."""
    text = FILE.read_text()
    if where == "spot":
        assert text.count(_SPOT) == 1
        text = text.replace(_SPOT, _SPOT.removeprefix("# "))
    cluster: dict[str, Any] = yaml.safe_load(text)
    if where in ("local", "gcp"):
        cluster |= edits(where)
    return {name: value for name, value in cluster.items() if value is not None}


def edits(where: str) -> dict[str, Any]:
    """Return the parts that the page replaces; None: it is left out."""
    block = re.search(rf"<!-- edits: {where} -->\n```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None, f"{PAGE} shows no edits for {where}"
    found: dict[str, Any] = yaml.safe_load(block[1])
    return found
