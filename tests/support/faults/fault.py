"""What a fault is, what it is done to, and how it is undergone: with traffic, and a ledger of what was acknowledged."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any, Final, Protocol

from data.settings import Settings
from tests.support.faults.traffic import Traffic

BACK_S: Final = 30.0
"""Within how many seconds a service is to be back."""
LEARNED_S: Final = 5.0
"""Within how many seconds what is reported is to be learned where learning goes on."""
_PATIENCE_S = 150.0
"""How long is waited all the same, to write down how long it took."""
_STOPPED_S = 20.0


class Place(Protocol):
    """A service with traffic, to which faults are done."""

    traffic: Traffic
    settings: Settings
    """Of who looks at its log and its archive from this machine."""

    @property
    def store_url(self) -> str:
        """The log, as it is reached from this machine."""

    def prepare(self) -> None:
        """Put something in the place of what was taken away for good, as those would who run it."""

    def find(self, *words: str) -> list[int]:
        """Return the processes, by their number on this machine, whose command line has all the words."""

    def is_whole(self) -> bool:
        """Say whether all that is to run runs."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    place: str
    """Where it is done: a key of `tests.support.faults.places.PLACES`."""
    what: str
    """What is done."""
    undone: str
    """When and how it is undone by others than the service, if it is."""
    claim: str
    """What is true nevertheless; and of all: nothing is lost or double, and the service is back within `BACK_S`."""
    happen: Callable[[Any], AbstractContextManager[None]]
    """Does it to the place, and undoes it at the end, if it is undone."""
    lasts_s: float = 0.0
    heals: bool = False
    """Whether the service can be back only when it is undone: it is measured since then, else since it was done."""
    of_learner: bool = False
    """Whether nothing can be learned meanwhile."""
    learns: bool = False
    """Whether answers and learning go on: what is reported meanwhile is learned within `LEARNED_S`."""


@dataclass(frozen=True)
class Course:
    """How a fault went."""

    fault: Fault
    recovery_s: float
    """Until the service was back, since the fault, or since it was undone."""
    refusals: list[tuple[float, str]]
    """Requests that were not answered meanwhile, and sent again: how many seconds after the beginning, and why."""
    lost: list[str]
    double: list[str]
    wrong: list[str]
    """Answers that nobody should get, and why it was not back for so long."""
    freshness_s: list[float] = field(default_factory=list)
    """Of each report from the beginning until it was over: how long until an answer had learned it."""


def undergo(fault: Fault, place: Place) -> Course:
    """Do a fault to a place whose traffic flows, and wait until all is well again.

    Raises:
        AssertionError: the service was not well before.
    """
    traffic = place.traffic
    place.prepare()
    traffic.wait_until_back(perf_counter(), place.is_whole, _PATIENCE_S)
    refused, wrong, began = len(traffic.refusals), len(traffic.wrong), perf_counter()
    over, never = began, list[str]()
    try:
        with fault.happen(place):
            over = perf_counter()
            sleep(fault.lasts_s)
        if fault.heals:
            over = perf_counter()
        recovery_s = traffic.wait_until_back(over, place.is_whole, _PATIENCE_S)
    except AssertionError as error:
        recovery_s, never = perf_counter() - over, [str(error) or repr(error)]
    fresh = traffic.freshness_s(began, perf_counter())
    lost, double = traffic.ledger.compare(place.store_url)
    never += traffic.wrong[wrong:]
    refusals = [(at - began, what) for at, what in traffic.refusals[refused:]]
    return Course(fault, recovery_s, refusals, lost, double, never, fresh)


def kill(*words: str, most: int | None = None) -> Callable[[Place], AbstractContextManager[None]]:
    """Return what kills the processes of a place whose command line has all the words, and looks that they are gone."""

    @contextmanager
    def happen(place: Place) -> Iterator[None]:
        send(place.find(*words)[:most], signal.SIGKILL)
        yield

    return happen


def stop(*words: str, most: int | None = None) -> Callable[[Place], AbstractContextManager[None]]:
    """Return what stops processes, and lets those go on at the end that nobody has killed meanwhile."""

    @contextmanager
    def happen(place: Place) -> Iterator[None]:
        stopped = place.find(*words)[:most]
        send(stopped, signal.SIGSTOP)
        yield
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return happen


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes.

    Raises:
        AssertionError: there are none.
    """
    assert pids, "there is no such process: a fault of nothing"
    for pid in pids:
        os.kill(pid, number)


def killed(name: str, place: str, claim: str, *words: str, most: int | None = None, **how: bool) -> Fault:
    """Return the fault that processes are killed; `how` are fields of it."""
    what, undone = f"SIGKILL of the {name.replace('_', ' ')}", "not at all"
    return Fault(f"{name}_killed", place, what, undone, claim, kill(*words, most=most), **how)


def stopped(name: str, place: str, claim: str, *words: str, most: int | None = None, **how: bool) -> Fault:
    """Return the fault that processes are stopped for a while; `how` are fields of it."""
    what, undone = f"SIGSTOP of the {name.replace('_', ' ')}", f"SIGCONT after {_STOPPED_S:g} s"
    happen = stop(*words, most=most)
    return Fault(f"{name}_stopped", place, what, undone, claim, happen, lasts_s=_STOPPED_S, heals=True, **how)
