"""The columns of a node's tables: what its rows become, accepted or rejected."""

import pyarrow as pa

from data.nodes.convert import ARROW
from data.nodes.node import STORED_AS, NodeSpec
from data.nodes.times import TIMESTAMP


def events_schema(node: NodeSpec) -> pa.Schema:
    """Return the schema of a node's events: the roles' columns, its other columns, the scaled ones.

    user_id, item_id, time and outcome are always there, all null where no column has the role.
    """
    fields = {"event_id": pa.string(), "user_id": pa.string(), "item_id": pa.string()}
    fields |= {"time": TIMESTAMP, "outcome": pa.float64()}
    if node.with_role("session"):
        fields["session"] = pa.string()
    fields |= {
        column.stored_name: pa.string() if column.type == "string" else ARROW[column.type]
        for column in node.columns
        if column.role not in STORED_AS
    }
    fields |= {f"{column.stored_name}_scaled": pa.float64() for column in node.scaled_columns}
    if node.scaled_columns:
        fields["scaler_version"] = pa.int32()
    return pa.schema(list(fields.items()))


def rejects_schema(node: NodeSpec) -> pa.Schema:
    """Return the schema of a node's rejects; `record` is the row as it was read, by header."""
    record = pa.struct([(column.header, pa.string()) for column in node.columns])
    return pa.schema(
        [
            ("reject_id", pa.string()), ("source", pa.string()), ("row", pa.int64()), ("rule", pa.string()),
            ("column", pa.string()), ("value", pa.string()), ("record", record),
        ]
    )  # fmt: skip
