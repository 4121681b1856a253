"""What a fold begins with, and who says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rl.online.fold import FoldSpec, Place


@dataclass(frozen=True)
class Plan:
    """What a fold begins with."""

    spec: FoldSpec
    policies: Mapping[str, str]
    """Digests of kept artefacts, by the policy's name."""
    erasures: int = 0
    """How many users had been forgotten: another number is another log."""
    missing: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why configured policies are not among them, by name."""
    forced: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why policies are among them although the gate had said no, by name."""
    rolled_back: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Which versions of policies were taken back by themselves since the last promotion, and why, by name."""

    @property
    def place(self) -> Place:
        """The loop and the objective."""
        return self.spec.loop, self.spec.objective


PlanSource: TypeAlias = Callable[[], Sequence[Plan]]
"""Gives the plans that hold now; may raise StoreUnavailable or a ValueError, and is asked again."""
