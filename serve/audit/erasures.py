"""Which decisions need not be the same made again, as their fold had learned from users who were forgotten since."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from data.log.erasures import list_erasures
from data.log.store import Store
from data.settings import Settings
from rl.provenance.proof import Proof
from rl.provenance.proofs import Proofs
from serve.audit.replay import Comparison


@dataclass(frozen=True)
class Erasures:
    """When users were forgotten, and what was kept for decisions about others to be made again."""

    times: Mapping[int, datetime]
    proofs: Mapping[int, Proof]
    """By erasure."""

    @classmethod
    def of(cls, store: Store, settings: Settings) -> "Erasures":
        """Read those of a log."""
        times = list_erasures(store)
        return cls(times, Proofs(settings).in_force(times))

    def excuse(self, repeated: Comparison) -> str | None:
        """Return why a decision need not be the same: what its fold had learned from is gone; None: it must be."""
        fold_id, begun, _ = repeated.fold
        if begun is None:
            return None
        for erasure, time in self.times.items():
            if time < begun:
                continue
            if (proof := self.proofs.get(erasure)) is None:
                return f"the erasure of {time:%Y-%m-%d %H:%M} has no proof"
            if not proof.covers(fold_id, repeated.step):
                fold = proof.folds.get(fold_id)
                through = f"proves it to step {fold.through}" if fold else "does not prove it"
                return f"the erasure of {time:%Y-%m-%d %H:%M} {through}"
        return None
