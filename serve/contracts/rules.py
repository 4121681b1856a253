"""What a shop wants whatever a policy thinks: filters and rules, of a request or of the configuration.

What a filter removes is no candidate; rules hold for slates of those that are: see `serve.decisions.filters` and
`rl.policy.rules`.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data.fields import Amount, Id

MAX_SLATE = 100
_MAX_NAMED = 1_000

Category = Id


class _RulesModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Filter(_RulesModel):
    """Which of the items may be shown."""

    categories: Annotated[tuple[Category, ...], Field(max_length=_MAX_NAMED)] | None = Field(
        default=None, description="only items that have one of these; default: all"
    )
    exclude_categories: Annotated[tuple[Category, ...], Field(max_length=_MAX_NAMED)] = Field(
        default=(), description="no item that has one of these"
    )
    exclude_seen: bool = Field(default=False, description="no item of which the log says that the user has seen it")
    exclude_bought: bool = Field(default=False, description="no item of which the log says that the user bought it")
    available_only: bool = Field(
        default=True, description="no item that is marked unavailable, has expired or was deleted"
    )


class BusinessRules(_RulesModel):
    """Pins, boosts and caps; what is not given here is as configured, what is given is in its place as a whole."""

    pins: Annotated[dict[Id, Annotated[int, Field(ge=0, lt=MAX_SLATE)]], Field(max_length=MAX_SLATE)] | None = Field(
        default=None, description="slots, from 0, of items that are shown there in any case"
    )
    boosts: Annotated[dict[Id, Amount], Field(max_length=_MAX_NAMED)] | None = Field(
        default=None, description="what is added to an item's expected reward, by item"
    )
    caps: Annotated[dict[Category, Annotated[int, Field(ge=0, le=MAX_SLATE)]], Field(max_length=100)] | None = Field(
        default=None, description="the most items of a category in one slate, by category"
    )

    @field_validator("pins")
    @classmethod
    def _one_item_a_slot(cls, pins: dict[str, int] | None) -> dict[str, int] | None:
        slots = list((pins or {}).values())
        if twice := sorted({slot for slot in slots if slots.count(slot) > 1}):
            raise ValueError(f"only one item can be pinned to a slot, several are to {', '.join(map(str, twice))}")
        return pins


class Lookback(_RulesModel):
    """How far back the filters look for what a user has seen and bought."""

    seen_s: float = Field(default=30 * 86_400.0, gt=0, le=1e9, description="seconds")
    bought_s: float = Field(default=365 * 86_400.0, gt=0, le=1e9, description="seconds")
