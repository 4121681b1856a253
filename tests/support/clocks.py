"""Clocks that tests set."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass
class Clock:
    """The true time, and by how much the clock is off."""

    now: datetime = field(default=NOON)
    off: timedelta = timedelta()

    def __call__(self) -> datetime:
        return self.now + self.off

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
