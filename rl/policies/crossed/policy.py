"""A bandit over features of any kind: linear in crossed features, and a table where whole contexts recur.

The reward of an item in a context is φᵀw + u_c + noise. φ are the item's features, the context's, and products of both
(`rl.policies.crossed.crossing`), w their weights (`rl.policies.crossed.model`); u_c belongs to the cell, the item in
the whole categorical context (`rl.policies.crossed.cells`). So it generalises from single features and pairs, and
becomes exact wherever a context comes again. All rests on sums, and all else follows from them: adding impressions
in one call or in many gives the same up to rounding, if their order is the same (new features get their places in it).

Axis names: B queries, A candidates, S samples, D features, K crossed features of an item, N impressions.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from rl.policies.crossed.cells import Cell, Cells, Sightings, check_vector
from rl.policies.crossed.config import CrossedConfig
from rl.policies.crossed.crossing import (
    CODES,
    MOST_CROSSED,
    Crossing,
    left_out,
    mix_ids,
    mixed_items,
    to_codes,
    weighted_context,
    weighted_items,
    without,
)
from rl.policies.crossed.explanation import CellPart, Naming, Parts, cross_item, explain_item
from rl.policies.crossed.feature_index import Dictionary
from rl.policies.crossed.keys import SEEN, dense, keys_of, list_codes
from rl.policies.crossed.lookup import look_up
from rl.policies.crossed.model import LinearModel
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.explorers import Votes, WithUniform
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from rl.policy.sparse import Sparse, widths

_ROWS = 256  # impressions that are added at once
_PRODUCTS = 1 << 25  # crossed features that are added at once
_SIGHTINGS = ("contexts", "context_features", "item_features")


class CrossedBandit(Policy):
    """Needs queries and impressions with features by id (`rl.policy.sparse.Sparse`)."""

    def __init__(self, config: CrossedConfig) -> None:
        self.config = config
        self._crossing = Crossing(
            config.interactions, config.ignore_linear, config.constant, flat=config.noise_sd is None
        )
        self._left_out = left_out(config.ignore, config.keep)
        self._dictionary = Dictionary(config.max_features, CODES)
        self._model = LinearModel(config)
        self._cells = Cells(config.max_cells)
        self._contexts, self._context_features, self._item_features = (Sightings(SEEN) for _ in _SIGHTINGS)
        self._recurrence: tuple[float, float] | None = None  # None after a change

    @property
    def explorer(self) -> WithUniform:  # type: ignore[override]  # it follows from what was learned
        """The configured one, in units of the spread of rewards where that is learned, with uniform draws."""
        return WithUniform(self.config.explorer.scale(self._model.solve().scale.unit), self.config.epsilon)

    def expected(self, query: Query) -> FloatArray:
        """Return the posterior mean of each candidate's reward, [B, A]."""
        return self._mean(self._parts(self._read(query.sparse)))

    def _mean(self, parts: Parts) -> FloatArray:
        mean: FloatArray = parts.phi @ self._model.solve().mean + parts.offset
        return mean

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray]:
        """See `Policy.posterior`; what nothing is known of is uncertain as far as it may come again."""
        parts = self._parts(self._read(query.sparse))
        flat = parts.phi.reshape(parts.offset.size, parts.phi.shape[-1])
        known = (flat * self._model.covary(flat.T).T).sum(axis=1).reshape(parts.offset.shape)
        return self._mean(parts), np.sqrt(known + parts.new + parts.own)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain exactly: what features and products of them add, and what item and context have of their own."""
        sparse = self._read(query.sparse)
        parts, solved, keys = self._parts(sparse), self._model.solve(), keys_of(sparse)[1]
        scores = self._mean(parts)
        blocks = list(self._crossing.factors(sparse, *self._known(sparse)[:2]))
        members = list(self._crossing.members(sparse.context.shape[1], sparse.items.shape[2]))
        items = []
        for at in positions:
            cell = self._cell(int(keys[0, at]))
            part = cell and CellPart(*cell, float(parts.offset[0, at]) - solved.scale.centre)
            crossed = cross_item(blocks, at, self._dictionary, self.config.prior_sd)
            unknown = float(parts.own[0, at]), float(parts.new[0, at])
            name, covary = Naming(members, sparse, at, names), self._model.covary(parts.phi[0, at])
            score = float(scores[0, at])
            items.append(
                explain_item(crossed, name, score, solved.scale.centre, solved.mean, covary, part, unknown, top)
            )
        return Explanation("exact", tuple(items))

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return posterior samples [B, S, A] where they are to vote, else the means [B, 1, A]."""
        return self.score(query, rng)[0]

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return `scores` and `expected`."""
        parts = self._parts(self._read(query.sparse))
        expected = self._mean(parts)
        if not isinstance(self.config.explorer, Votes):
            return expected[:, None, :], expected
        samples = (parts.phi @ self._model.draws()).swapaxes(1, 2) + parts.offset[:, None, :]  # [B, S, A]
        sd = np.sqrt(parts.new + parts.own)
        return samples + sd[:, None, :] * rng.standard_normal(samples.shape), expected

    def _read(self, sparse: Sparse | None) -> Sparse:
        """Return the features that are not left out."""
        if sparse is None:
            raise PolicyError(
                "a described policy needs features by id: encode with rl.encoders.json_features.FeaturesEncoder"
            )
        return sparse if self._left_out is None else without(sparse, self._left_out)

    def _parts(self, sparse: Sparse) -> Parts:
        scale = self._model.solve().scale
        phi, variance = self._features(sparse)
        variance *= scale.unit**2
        offset = np.full(variance.shape, scale.centre)
        if not np.isfinite(self._model.own):
            return Parts(phi, offset, variance, np.zeros(variance.shape))
        contexts, keys = keys_of(sparse)
        own = np.full(variance.shape, (self.config.cell_sd * scale.unit) ** 2)
        for row, column in np.argwhere(keys >= 0):
            if found := self._cell(int(keys[row, column])):
                cell, share = found
                phi[row, column, cell.at] -= share * cell.s
                offset[row, column] += share * (cell.b - scale.centre * cell.n)
                own[row, column] = share * scale.noise**2
        # A cell is worth exploring if it comes again: the context has as often as there are items, the item at all.
        worth = np.minimum(self._contexts.of(to_codes(contexts, SEEN)) / phi.shape[1], 1.0)  # [B]
        item_seen = self._find_seen(sparse.items)
        return Parts(phi, offset, variance, own * worth[:, None] * (item_seen & (keys >= 0)))

    def _cell(self, key: int) -> tuple[Cell, float] | None:
        """Return the cell of a key, and the share of its sums that it has of its own; None: there is none."""
        cell = self._cells.get(key) if key >= 0 and isfinite(self._model.own) else None
        return None if cell is None else (cell, 1.0 / (cell.n + self._model.own))

    def _find_seen(self, items: IntArray) -> BoolArray:
        """Return which items were seen before, [B, A]; without ids, those of which nothing is new."""
        named = bool(items[..., 0].all())
        ids = items[..., :1] if named else items
        seen: BoolArray = ((self._item_features.of(to_codes(mixed_items(ids), SEEN)) > 0) | (ids == 0)).all(axis=2)
        return seen

    def _features(self, sparse: Sparse) -> tuple[FloatArray, FloatArray]:
        """Return φ [B, A, D], and the variance of what features add that nothing is known of, [B, A]."""
        context, items, new_context, new_items = self._known(sparse)
        # What was never seen may never come again: then there is nothing to be gained from trying it.
        recurrence = np.sqrt(self._recurrences())
        context_worth = np.where(new_context, recurrence[0] * weighted_context(sparse), context)
        items_worth = np.where(new_items, recurrence[1] * weighted_items(sparse), items)
        phi, variance = np.zeros((*items.shape[:2], len(self._dictionary))), np.zeros(items.shape[:2])
        for block, every in zip(
            self._crossing.factors(sparse, context, items),
            self._crossing.factors(sparse, context_worth, items_worth),
            strict=True,
        ):
            variance += (every.context**2).sum(axis=1)[:, None] * (every.items**2).sum(axis=2)
            for rows, known, sure in look_up(block, self._dictionary):
                phi[rows] += known
                variance[rows] -= sure
        return self.config.prior_sd * phi, self.config.prior_sd**2 * np.maximum(variance, 0.0)

    def _known(self, sparse: Sparse) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
        """Return weighted values of context [B, C] and items [B, A, F], 0 of what is new, and which features are."""
        new_context = self._context_features.of(to_codes(mix_ids(sparse.context), SEEN)) == 0
        new_items = self._item_features.of(to_codes(mixed_items(sparse.items), SEEN)) == 0
        context, items = weighted_context(sparse), weighted_items(sparse)
        return np.where(new_context, 0.0, context), np.where(new_items, 0.0, items), new_context, new_items

    def _recurrences(self) -> tuple[float, float]:
        """Return how likely a new feature of a context, and of an item, comes again."""
        if self._recurrence is None:
            self._recurrence = self._context_features.recurrence(), self._item_features.recurrence()
        return self._recurrence

    def update(self, impressions: Impressions) -> None:
        """Add to the sums, in order. A correction changes those of rewards only; with count -1 it takes back."""
        sparse = self._read(impressions.sparse)
        c, f = widths(sparse.context), widths(sparse.items[:, 0])
        if len(c) and self._crossing.size(int(c.max()), int(f.max())) > MOST_CROSSED:
            for row in zip(c.tolist(), f.tolist(), strict=True):  # before anything is added
                self._crossing.check(*row, 1)
        for start in range(0, len(impressions), _ROWS):
            self._add_within(replace(impressions, sparse=sparse).rows(slice(start, start + _ROWS)))

    def _add_within(self, o: Impressions) -> None:
        """Add impressions, as many at once as memory allows where much is said of some."""
        assert o.sparse is not None, "it was read"
        sparse = o.sparse.trim()
        if len(o) > 1 and len(o) * self._crossing.size(sparse.context.shape[1], sparse.items.shape[2]) > _PRODUCTS:
            half = len(o) // 2
            self._add_within(o.rows(slice(0, half)))
            self._add_within(o.rows(slice(half, None)))
        else:
            self._add(o, sparse)

    def _add(self, o: Impressions, sparse: Sparse) -> None:
        new = o.counts > 0
        context, items = weighted_context(sparse), weighted_items(sparse)
        crossed, crossed_values = self._crossing(sparse, context, items)
        codes, values = crossed[:, 0], crossed_values[:, 0]  # [N, K]
        self._dictionary.add(codes[new][values[new] != 0.0])
        self._model.grow(len(self._dictionary))
        places, signs = self._dictionary.find(codes)
        phi = dense(places, self.config.prior_sd * values * signs, len(self._model))  # [N, D]
        self._model.add(phi, o)
        contexts, keys = keys_of(sparse)
        if np.isfinite(self._model.own):
            self._add_to_cells(phi, o, keys[:, 0], new)
        for rows, times in ((new, 1), (o.counts < 0, -1)):
            self._contexts.add(to_codes(contexts[rows & (keys[:, 0] >= 0)], SEEN), times)
            self._context_features.add(list_codes(mix_ids(sparse.context[rows]), sparse.context[rows]), times)
            self._item_features.add(list_codes(mixed_items(sparse.items[rows]), sparse.items[rows]), times)
        self._recurrence = None

    def _add_to_cells(self, phi: FloatArray, o: Impressions, keys: IntArray, new: BoolArray) -> None:
        """Add to the sums of cells, and to S and h what that changes of what the cells take away from them."""
        touched: dict[int, tuple[Cell, float, float, list[int]]] = {}  # the cell, its n and b before, and the rows
        for row in np.flatnonzero(keys >= 0):
            key = int(keys[row])
            if new[row]:
                cell: Cell | None = self._cells.observe(key, float(o.counts[row]))
            else:
                cell = self._cells.retract(key, -float(o.counts[row])) if o.counts[row] else self._cells.get(key)
            if cell is not None:
                touched.setdefault(id(cell), (cell, cell.n - o.counts[row], cell.b, []))[3].append(int(row))
        for cell, n, b, rows in touched.values():
            self._model.take(cell.at, cell.s, n, b, -1.0)
            after = o.counts[rows] @ phi[rows]
            after[cell.at] += cell.s
            cell.b += float(o.rewards[rows].sum())
            cell.at = np.flatnonzero(after)
            cell.s = after[cell.at]
            self._model.take(cell.at, cell.s, cell.n, cell.b, 1.0)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return codes [D] of the features, S [D, D] and h [D], the cells, and what was seen how often."""
        return {
            "codes": np.array(self._dictionary.known, dtype=np.float64),
            **self._model.state_dict(),
            **self._cells.state_dict(),
            **{name: getattr(self, f"_{name}").state() for name in _SIGHTINGS},
        }

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        codes = check_vector(state, "codes").astype(np.int64)
        size = len(codes)
        if size > self.config.max_features or len(np.unique(codes)) < size or ((codes < 0) | (codes >= CODES)).any():
            raise PolicyError(f"array 'codes' of the saved policy must have {self.config.max_features} codes at most")
        loaded = CrossedBandit(self.config)
        loaded._dictionary.add(codes)
        loaded._model = self._model.restore(state, size)
        loaded._cells = self._cells.restore(state, size)
        for name in _SIGHTINGS:
            setattr(loaded, f"_{name}", getattr(self, f"_{name}").restore(state, name))
        self.__dict__.update(loaded.__dict__)
