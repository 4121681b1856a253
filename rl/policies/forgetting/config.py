"""How a policy forgets."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

RATIO = 4
"""Of two neighbouring windows' lengths: the best length of any is missed by a factor of 2 at most.

If rewards wander, what is learned from a window of length E is off by noise, in proportion to 1/E, and by what has
changed, in proportion to E. By a factor of 2 off the best E their sum is (2 + 1/2) / 2 = 1.25 of what it could be.
"""


class Forgetting(BaseModel):
    """Learn on windows of the log side by side, beside all of it, and answer by what predicts best."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shortest: Annotated[
        int,
        Field(ge=2, description="E: the shortest window is the last E to 2E decisions; each other is 4 times longer"),
    ] = 64
    rates: Annotated[int, Field(ge=1, le=8, description="number of windows, beside the whole log")] = 5
