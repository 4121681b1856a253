"""Files of a node's rows, read and checked in this process: what an ingestion does before it writes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.ingest.clean import clean, finish_events, finish_rejects
from data.ingest.files import find_files
from data.ingest.reading import divide, read_piece
from data.nodes.node import NodeSpec, load_node

FAULTS = Path(__file__).parents[1] / "faults"


@dataclass
class Found:
    """What became of the rows of some files."""

    read: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0

    @property
    def rules(self) -> list[tuple[int, str]]:
        """Row and broken rule of each reject."""
        return sorted((reject["row"], reject["rule"]) for reject in self.rejects)


def declared(folder: Path, text: str) -> NodeSpec:
    """Return the node that a TOML text declares."""
    (folder / "node.toml").write_text(text)
    return load_node(folder / "node.toml")


def read(node: NodeSpec, *paths: Path) -> Found:
    """Read and check files; every row must be accounted for."""
    found = Found()
    for pieces in divide(find_files([str(path) for path in paths], node), 1_000_000):
        for piece in pieces:
            for block in read_piece(piece, node):
                cleaned = clean(block.table, node, piece.file.uri, block.rows, block.malformed)
                found.read += cleaned.read
                found.dropped += sum(cleaned.dropped.values())
                found.events += finish_events(cleaned.events, node, None).to_pylist()
                found.rejects += finish_rejects(cleaned.rejects, node).to_pylist()
    assert found.read == len(found.events) + len(found.rejects) + found.dropped
    return found
