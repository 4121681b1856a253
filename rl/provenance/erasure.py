"""`capture` in a process of its own, so that who answers meanwhile loses neither time nor memory to it.

The child is told what to do on its standard input: others see its arguments.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from data.errors import DataError
from data.log.erasures import list_erasures
from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.settings import Settings
from rl.provenance.capture import ProofSettings, capture, has_been_learned
from rl.provenance.proof import Proof, begin_proof
from rl.provenance.proofs import Proofs

_NICENESS = 10
_GRACE_S = 60.0
"""What a child may take beyond its time: to start, and to write what it has."""
_ASK_AGAIN = 75  # the exit status of a child that could not begin, or not read the log
_WAIT_S = 0.5

log = logging.getLogger("ray.serve")


class Task(BaseModel):
    """What a child is to do."""

    user_id: str
    settings: Settings
    limits: ProofSettings


def prove(store: Store, settings: Settings, user_id: str, limits: ProofSettings) -> Proof | None:
    """Keep what folds need to be made again without a user, before they are forgotten; None: nothing is proved.

    Where a call that was killed has kept it already, that is what counts.

    Raises:
        StoreUnavailable: the log does not answer; ask again.
        DataError: the archive does not answer.
    """
    proofs = Proofs(settings)
    if (pending := proofs.pending(user_id)) and not proofs.counts(pending, list_erasures(store)):
        return pending
    proofs.finish(user_id)
    if limits.max_s == 0:
        return None
    if not has_been_learned(store, user_id):
        proof = begin_proof(user_id)
        proofs.keep(proof)
        return proof
    run_child(Task(user_id=user_id, settings=settings, limits=limits))
    return proofs.pending(user_id)


def run_child(task: Task) -> None:
    """Let a child do it, and wait for its end.

    Raises:
        StoreUnavailable: it could not; ask again.
    """
    importable = os.pathsep.join(filter(None, sys.path))  # what the parent imports from, whoever put it there
    command, environment = [sys.executable, "-m", "rl.provenance.erasure"], {**os.environ, "PYTHONPATH": importable}
    try:
        child = subprocess.run(
            command,
            input=task.model_dump_json().encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            timeout=task.limits.max_s + _GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.warning("a user is forgotten without a proof: it took more than %g s", task.limits.max_s + _GRACE_S)
        return
    if child.returncode == _ASK_AGAIN:
        raise StoreUnavailable("what folds have learned from a user could not be read; standard error says why")
    if child.returncode:
        log.warning("a user is forgotten without a proof: what makes it ended with %d", child.returncode)


def main() -> int:
    """Be the child."""
    os.nice(_NICENESS)
    try:
        carry_out(Task.model_validate_json(sys.stdin.buffer.read()))
    except (StoreUnavailable, DataError) as error:
        print(f"rl.provenance.erasure: {error}", file=sys.stderr)
        return _ASK_AGAIN
    return 0


def carry_out(task: Task) -> None:
    """Do it, unless a child of a parent that was killed has done it meanwhile.

    Raises:
        StoreUnavailable, DataError: as `capture` does; or another user is being forgotten all the time.
    """
    # As the service computes: more threads add in another order.
    with closing(Store.open(task.settings.store_url)) as store, threadpool_limits(1, "blas"), _alone(store, task):
        if not Proofs(task.settings).pending(task.user_id):
            capture(store, task.settings, task.user_id, task.limits)


@contextmanager
def _alone(store: Store, task: Task) -> Iterator[None]:
    """Wait until no other process does the same to the log."""
    deadline = time.monotonic() + task.limits.max_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(store.exclusively("proof"))
                break
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_WAIT_S)
        yield


if __name__ == "__main__":
    sys.exit(main())
