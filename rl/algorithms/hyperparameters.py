"""The base of all algorithms' hyper-parameters, and the fields that several have.

Each algorithm's hyper-parameters are one frozen model in its `config` module. It is a table of an experiment's TOML
file and options of the command line, and RLlib's configuration carries it (see `rl.algorithms.configuration`).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
BatchSize = Annotated[int, Field(ge=1, description="transitions of an update")]
Loss = Annotated[Literal["mse", "huber"], Field(description="of the TD errors")]
FinalShare = Annotated[Share, Field(description="of the learning rate, left at the end")]
WeightDecay = Annotated[float, Field(ge=0, description="of AdamW")]


class Hyperparameters(BaseModel):
    """Base of an algorithm's hyper-parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
