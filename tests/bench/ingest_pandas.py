"""The pandas pass beside `tests.bench.ingest`: `python -m tests.bench.ingest_pandas FOLDER TARGET`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # noqa: F401  (imported before the clock starts)
import pyarrow.parquet as pq  # noqa: F401

RULES = ("customer present", "goods code", "quantity > 0", "unit price > 0")


def main(folder: str, target: str) -> None:
    before = status("VmRSS")
    start = time.perf_counter()
    rows = pd.read_parquet(folder, dtype_backend="pyarrow")
    checks = [
        rows["CustomerID"].notna(),
        rows["StockCode"].str.match(r"^\d{5}[A-Za-z]{0,2}$"),
        rows["Quantity"] > 0,
        rows["UnitPrice"] > 0,
    ]
    failed = [~check.to_numpy(dtype=bool, na_value=False) for check in checks]
    first = np.select(failed, range(len(RULES)), default=len(RULES))
    accepted = first == len(RULES)
    rejects = rows[~accepted].copy()
    rejects["rule"] = pd.Categorical.from_codes(first[~accepted], categories=pd.Index(RULES))
    events = rows[accepted]
    events = events.assign(Description=events["Description"].fillna(""))
    for column in ("Quantity", "UnitPrice"):
        values = events[column]
        events[f"{column}_scaled"] = (values - values.mean()) / values.std(ddof=0)
    events = events.drop_duplicates()
    Path(target).mkdir()
    events.to_parquet(f"{target}/events.parquet", index=False)
    rejects.to_parquet(f"{target}/rejects.parquet", index=False)
    seconds = time.perf_counter() - start
    peak = (status("VmHWM") - before) / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "events": len(events), "rejects": len(rejects)}))


def status(field: str) -> int:
    """Return a field of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
