"""What all bodies of version 1 have in common: no unknown fields, and the two forms, one or a list."""

from typing import Final

from pydantic import BaseModel, ConfigDict

MAX_BATCH: Final = 1_000
"""Entries of a list."""
FORMS: Final = ("one", "many")
"""Tags of the two forms of a body; tagged, an error is about the form that was sent."""


class Body(BaseModel):
    """Base of all bodies: an unknown field is refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
