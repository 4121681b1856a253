"""The encoder that knows customers and items from their past purchases."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Self

import numpy as np

from data.features.customers import Encoder
from rl.encoders.base import name_entries, stack_histories
from rl.encoders.visit import Visit
from rl.policy.explanation.parts import Names
from rl.policy.queries import Query


class CustomerEncoder(Encoder):
    """What is known of customers and items from their past purchases; see `data.features.customers.Encoder`."""

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Return the same encoder as one of visits."""
        return cls(**{f.name: getattr(encoder, f.name) for f in fields(Encoder)})

    def names(self, visit: Visit) -> Names:
        """See `VisitEncoder.names`."""
        return Names(self.feature_names, history=name_entries(visit.history, self.items))

    def query(self, visits: Sequence[Visit]) -> Query:
        """See `VisitEncoder.query`; of the context only the time is read."""
        times = [visit.visit_time for visit in visits]
        users = self.user_positions(visit.user_id for visit in visits)
        items = self.item_positions(item for visit in visits for item in visit.candidates).reshape(len(visits), -1)
        return Query(
            features=self.joint(users, times, items),
            state=self.states(users, times),
            items=items,
            mask=np.ones(items.shape, dtype=np.bool_),
            history=stack_histories(visits),
        )
