"""Probes that come as a file: DSJSON lines, good and odd ones, imported while the service runs."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.hostility import values
from tests.bench.hostility.asks import Promise
from tests.bench.hostility.load import Tally
from tests.bench.hostility.values import Rng, pick

KIND = "imports"


def line(rng: Rng, event: str, odd: bool) -> str:
    """Return a line as Vowpal Wabbit logs it; an odd one has odd features, probabilities or parts missing."""
    row: dict[str, Any] = {
        "_label_cost": -1.0, "_label_probability": 0.5, "_label_Action": 1, "_labelIndex": 0, "Version": "1",
        "Timestamp": "2026-11-20T10:00:00Z", "EventId": event, "a": [1, 2], "p": [0.5, 0.5],
        "c": {"User": {"age": 30}, "_multi": [{"_tag": tag, "j": [{"hot": tag == "tea"}]} for tag in ("tea", "juice")]},
    }  # fmt: skip
    if not odd:
        return json.dumps(row)
    match int(rng.integers(6)):
        case 0:
            row["c"]["User"] = values.features(rng)
        case 1:
            row["c"]["_multi"][0]["j"] = [values.tree(rng, 3)]
        case 2:
            row["p"] = [pick(rng, (1.00000012, 0, values.beyond(rng))), 0.5]
        case 3:
            del row[pick(rng, tuple(row))]
        case 4:
            row["c"] |= {"_slots": pick(rng, ([], [{"_id": "hero"}])), "_outcomes": []}
        case _:
            row["c"]["User"] = {"at": values.beyond(rng)}
    return json.dumps(row)[: None if rng.random() < 0.9 else 40]


async def bring_in(home: Path, checkout: Path, seed: int, turn: int, count: int, tally: Tally) -> None:
    """Import a file of lines by the project's own command; the good ones are promised.

    Args:
        home: of the service.
        checkout: whose command it is.
        seed: of all probes.
        turn: of the imports.
        count: of the lines.
        tally: where they are counted.
    """
    rng, file = np.random.default_rng((seed, turn, 1)), home / f"import-{turn}.dsjson"
    odd = (rng.random(count) < 0.7).tolist()
    events = [f"import-{turn}-{number}" for number in range(count)]
    file.write_text("".join(line(rng, event, strange) + "\n" for event, strange in zip(events, odd, strict=True)))
    environment = {**os.environ, "RAYCOMMEND_HOME": str(home), "PYTHONPATH": str(checkout)}
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "data.dsjson", "import", str(file), cwd=checkout, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await done.communicate()
    if done.returncode != 0:
        tally.faults.append(f"{KIND}: exit {done.returncode}: {err.decode()[-500:]}")
        return
    rejected = int(json.loads(out.splitlines()[-1])["rejected"])
    tally.refused[KIND] += rejected
    tally.accepted[KIND] += count - rejected
    good = {("decision", f"personalizer:{event}") for event, strange in zip(events, odd, strict=True) if not strange}
    tally.promised |= good


def missing(home: Path, promised: set[Promise]) -> list[Promise]:
    """Return what was promised and is not in the log."""
    from data.log.current.items import get
    from data.log.current.users import get_user
    from data.log.store import Store
    from data.settings import Settings
    from tests.support.rows import feedback_rows

    store = Store.open(Settings(home=home, store=None, archive=None).store_url)
    by_table: dict[str, set[str]] = {}
    for table, name in promised:
        by_table.setdefault(table, set()).add(name)
    there = {
        "decision": set(store.decisions_by_id(by_table.get("decision", set()))),
        "feedback": {report.feedback_id for _, report in feedback_rows(store)},
        "event": {event.event_id for _, event in store.events("online_retail")},
        "item": {item for item in by_table.get("item", ()) if get(store, item)},
        "user": {user for user in by_table.get("user", ()) if get_user(store, user)},
    }
    store.close()
    return [(table, name) for table, name in sorted(promised) if name not in there[table]]
