"""Evaluations and feature importances in the store's settings: what was said of each last counts."""

from collections.abc import Sequence
from typing import TypeVar

from data.log.current.settings_table import SettingsTable, reading, writing
from data.log.store import Store
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.evaluations.contracts import Evaluation, Importance

K = TypeVar("K", Evaluation, Importance)


class Kept:
    """All that are kept of a kind. Methods raise StoreError as the store does."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self._store = store

    def evaluations(self) -> list[Evaluation]:
        """Return all evaluations, also those that were deleted, the oldest first."""
        return self._read(Evaluation)

    def all_evaluations(self) -> list[Evaluation]:
        """Return all that ever were, each as it was last, also those whose ids others have taken since."""
        with reading(self._store) as table:
            last = {(one.id, one.created): one for one in _history(table, Evaluation)}
        return list(last.values())

    def importances(self) -> list[Importance]:
        """Return all feature importances, also those that were deleted, the oldest first."""
        return self._read(Importance)

    def create(self, new: K) -> bool:
        """Keep what is new; returns False, and keeps nothing, where there is one of its id."""
        with writing(self._store) as table:
            if any(one.id == new.id and not one.deleted for one in _list(table, type(new))):
                return False
            self._append(table, new)
            return True

    def change(self, changed: K) -> None:
        """Keep what is known by now, unless it was deleted meanwhile."""
        with writing(self._store) as table:
            now = [one for one in _list(table, type(changed)) if one.id == changed.id]
            if now and not now[0].deleted and now[0].created == changed.created:
                self._append(table, changed)

    def _read(self, kind: type[K]) -> list[K]:
        with reading(self._store) as table:
            return _list(table, kind)

    def _append(self, table: SettingsTable, value: Evaluation | Importance) -> None:
        table.append(_name(type(value)), value.model_dump(mode="json", by_alias=False), self._store.now())


def _list(table: SettingsTable, kind: type[K]) -> list[K]:
    return list({one.id: one for one in _history(table, kind)}.values())


def _history(table: SettingsTable, kind: type[K]) -> list[K]:
    return [kind.model_validate(setting.value) for setting in table.history((_name(kind),))]


def _name(kind: type[Evaluation] | type[Importance]) -> str:
    return f"{LOOP}.{'evaluation' if kind is Evaluation else 'importance'}"


def find(kept: Sequence[K], key: str) -> K | None:
    """Return the one of an id that was not deleted."""
    return next((one for one in kept if one.id == key and not one.deleted), None)
