"""Where a training gets its events: archives from before as they are, and what is there of which role."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from data.archive.parquet import Archive, write_part
from data.errors import DataError
from data.features.purchases import purchase_lines
from data.nodes.columns import events_schema
from data.nodes.node import NodeSpec, load_node
from data.settings import Settings
from rl.experience.events import purchase_events
from tests.support.nodes import declared

RETAIL = load_node("online_retail")


def stored(settings: Settings, node: NodeSpec, events: list[dict[str, object]]) -> None:
    """Put events into the archive as an ingestion would, but unchecked."""
    archive = Archive.at(settings.archive_uri)
    archive.filesystem.create_dir(archive.folder("events", node.name))
    schema = events_schema(node)
    rows = [dict.fromkeys(schema.names) | {"event_id": f"{n:032d}"} | event for n, event in enumerate(events)]
    table = pa.Table.from_pylist([row | {"time": None} for row in rows], schema)
    ticks = pa.array([row["time"] for row in rows], pa.int64()).cast(schema.field("time").type)
    table = table.set_column(schema.get_field_index("time"), "time", ticks)
    write_part(table, f"{archive.folder('events', node.name)}/p-0.parquet", "event_id", archive)


def test_a_time_that_python_has_not_is_left_out_of_an_old_archive(tmp_path: Path) -> None:
    """Once such rows were let in: 1294135200000 seconds are a day of the year 42979."""
    settings = Settings(home=tmp_path)
    row = {"user_id": "1", "item_id": "22423", "outcome": 1.0, "session": "1", "unit_price": 1.0}
    stored(settings, RETAIL, [row | {"time": 1294135200000000}, row | {"time": 1294135200000000000}])
    events = purchase_events(settings, "online_retail")
    assert events["time"].to_pylist() == [datetime(2011, 1, 4, 10, tzinfo=UTC)]
    assert events["price"].to_pylist() == [1.0]  # what the node calls unit_price
    assert len(purchase_lines(events)) == 1
    with pytest.raises(DataError, match="no events of node online_retail in that time"):
        purchase_events(settings, "online_retail", since=datetime(2012, 1, 1, tzinfo=UTC))


def test_a_node_without_prices_and_sessions_has_events_all_the_same(tmp_path: Path) -> None:
    text = "".join(
        f'[[columns]]\nname = "{role}"\ntype = "{kind}"\nrole = "{role}"\n'
        for role, kind in (("user", "string"), ("item", "string"), ("time", "timestamp"))
    )
    node, settings = declared(tmp_path, f'name = "plays"\n{text}'), Settings(home=tmp_path)
    stored(settings, node, [{"user_id": "1", "item_id": "song", "time": 1294135200000000}])
    lines = purchase_lines(purchase_events(settings, str(tmp_path / "node.toml")))
    assert lines[["item_id", "session", "amount"]].to_numpy().tolist() == [["song", "day 2011-01-04", 1.0]]
