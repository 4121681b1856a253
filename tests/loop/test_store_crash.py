"""Writers that are killed: every acknowledged record is in the log, once.

Four processes write 10,000 decisions and as many feedback each, a fifth of what they send being duplicates (of their
own and of another process's); two of them are killed with SIGKILL in the middle, one alone and one with its writer.
"""

import asyncio
import multiprocessing
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil
import pytest

from data.log.insertion.appender import Stored
from data.log.store import Store
from data.log.writer.process import WriterProcess
from data.schema import AnyRecord, Decision, Feedback
from tests.support.databases import new_url as new_url
from tests.support.databases import url as url
from tests.support.ledger import rows_by_key
from tests.support.rows import count_rows

PROCESSES = 4
KILLED_AFTER = {1: 0.2, 3: 0.5}  # of its work
WITH_ITS_WRITER = 3
OWN_IDS = 8_000  # of each kind
SENDS = 10_000  # of each kind: 2,000 are duplicates
IN_FLIGHT = 200  # submissions


def _decision(number: int) -> Decision:
    return Decision(
        decision_id=f"d{number}",
        time=datetime.now(UTC),
        user_id=f"u{number % 100}",
        candidates=tuple(f"item-{n}" for n in range(20)),
        slate=("item-3", "item-1"),
        propensities=(0.5, 0.25),
        scores=(0.1, 0.2),
        policy="random",
        policy_version="random-1",
    )


def _feedback(number: int) -> Feedback:
    return Feedback(feedback_id=f"f{number}", decision_id=f"d{number}", kind="click")


def _sends(process: int) -> Iterator[list[Decision | Feedback]]:
    """Yield submissions of one decision and one feedback; duplicates follow their first by up to thousands of sends."""
    rng = random.Random(process)
    own = range(process * OWN_IDS, (process + 1) * OWN_IDS)
    another = range((process + 1) % PROCESSES * OWN_IDS, ((process + 1) % PROCESSES + 1) * OWN_IDS)
    numbers = list(own)
    for duplicate in [*rng.sample(own, (SENDS - OWN_IDS) // 2), *rng.sample(another, (SENDS - OWN_IDS) // 2)]:
        numbers.insert(rng.randrange(len(numbers)), duplicate)
    for number in numbers:
        yield [_decision(number), _feedback(number)]


def _write(url: str, process: int, acknowledged: Path) -> None:
    asyncio.run(_write_all(WriterProcess(url), process, acknowledged))


async def _write_all(writer: WriterProcess, process: int, acknowledged: Path) -> None:
    # Unbuffered: a line is the kernel's as soon as it is written, whatever happens to this process.
    with acknowledged.open("ab", buffering=0) as file:
        waiting: deque[asyncio.Task[list[Stored]]] = deque()
        for records in _sends(process):
            waiting.append(asyncio.create_task(writer.commit(records)))
            if len(waiting) >= IN_FLIGHT:
                file.write(_lines(await waiting.popleft()))
        while waiting:
            file.write(_lines(await waiting.popleft()))
    await writer.close()


def _lines(answers: list[Stored]) -> bytes:
    return "".join(f"{_key(s.record)} {s.seq} {int(s.inserted)} {int(s.orphan)}\n" for s in answers).encode()


def _key(record: AnyRecord) -> str:
    assert isinstance(record, Decision | Feedback)
    return record.decision_id if isinstance(record, Decision) else record.feedback_id


def _acknowledged(path: Path) -> list[tuple[str, int, bool, bool]]:
    """Read what a process acknowledged; a last line that was cut off by the kill was never acknowledged."""
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    fields = (line.split() for line in whole.decode().splitlines())
    return [(key, int(seq), inserted == "1", orphan == "1") for key, seq, inserted, orphan in fields]


def _kill_in_the_middle(processes: list[SpawnProcess], paths: list[Path]) -> None:
    """Kill each victim as soon as it has acknowledged its share of its work, whichever comes first."""
    deadline = time.monotonic() + 120
    lines = {victim: int(share * 2 * SENDS) for victim, share in KILLED_AFTER.items()}
    while lines:
        assert time.monotonic() < deadline, (
            f"writers {list(lines)} did not get to {list(lines.values())} lines in 120 s"
        )
        for victim in list(lines):
            if paths[victim].exists() and paths[victim].read_bytes().count(b"\n") >= lines[victim]:
                parent = psutil.Process(processes[victim].pid)
                [writer] = parent.children()
                parent.kill()
                if victim == WITH_ITS_WRITER:
                    writer.kill()
                del lines[victim]
        time.sleep(0.005)


def _run(url: str, paths: list[Path]) -> list[int | None]:
    """Run the four writers, kill two of them, return all exit codes."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write, args=(url, n, path)) for n, path in enumerate(paths)]
    try:
        for process in processes:
            process.start()
        _kill_in_the_middle(processes, paths)
        for process in processes:
            process.join(180)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()


@pytest.mark.slow
def test_every_acknowledged_record_is_in_the_log_once_after_two_of_four_writers_are_killed(
    url: str, tmp_path: Path
) -> None:
    paths = [tmp_path / f"acknowledged-{n}" for n in range(PROCESSES)]
    assert _run(url, paths) == [-signal.SIGKILL if n in KILLED_AFTER else 0 for n in range(PROCESSES)]

    told = [_acknowledged(path) for path in paths]
    for n in range(PROCESSES):
        if n in KILLED_AFTER:
            assert KILLED_AFTER[n] * 2 * SENDS <= len(told[n]) < 2 * SENDS, "killed after its end: a test of nothing"
        else:
            assert len(told[n]) == 2 * SENDS

    rows = [(key, seq) for (_, key), seq in rows_by_key(url)]
    position = dict(rows)
    assert len(position) == len(rows), "a key is in the log twice"

    answers = [answer for process in told for answer in process]
    wrong = [(key, seq, position.get(key)) for key, seq, _, _ in answers if position.get(key) != seq]
    assert wrong == [], "acknowledged, and not in the log at the acknowledged position"
    inserted = Counter(key for key, _, new, _ in answers if new)
    assert max(inserted.values()) == 1, "two processes were told that they had inserted the same key"
    assert not any(orphan for *_, orphan in answers)
    assert sum(not new for _, _, new, _ in answers) > 2 * (SENDS - OWN_IDS), "no duplicates: a test of nothing"

    with closing(Store.open(url)) as store:
        # A killed writer's submissions are there whole or not at all, and sending everything again completes them.
        assert {key[1:] for key in position if key[0] == "d"} == {key[1:] for key in position if key[0] == "f"}
        for n in KILLED_AFTER:
            store.insert([record for records in _sends(n) for record in records])
        counts = count_rows(store)
    assert (counts["decisions"], counts["feedback"]) == (PROCESSES * OWN_IDS, PROCESSES * OWN_IDS)
