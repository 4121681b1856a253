"""What `policy.json` of an artefact says."""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from data.errors import first_fault
from data.reward import RewardSpec
from rl.artefacts.errors import ArtefactError
from rl.encoders.description import EncoderDescription
from rl.policies import PolicyConfig


class TrainedIn(BaseModel):
    """The simulator that a policy was trained in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    options: dict[str, Any] = {}


class Description(BaseModel):
    """The part of an artefact that a person may want to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    name: str
    policy: PolicyConfig
    encoder: EncoderDescription
    reward: RewardSpec
    history: int = 0
    """See `rl.artefacts.artefact.Artefact`, as of the next three."""
    environment: TrainedIn | None = None
    trained_on: dict[str, str | int | float] = {}
    learned_until: AwareDatetime | None = None
    arrays_sha256: str
    graph_sha256: str | None = None
    """None: there is no graph."""
    erased_from: str | None = None
    """Hash of the description before users were taken out of the encoder, who asked to be forgotten. It stays the
    artefact's: all other users are answered as before."""

    @classmethod
    def parse(cls, text: str | bytes, where: object) -> "Description":
        """Read a description.

        Raises:
            ArtefactError: it is none; says where.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ArtefactError(f"{where} does not describe a policy: {first_fault(error)}") from error
