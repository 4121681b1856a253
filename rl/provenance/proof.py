"""What was kept of the folds that had learned from a forgotten user, and which of their steps it proves.

Two kinds of folders, each one object of the archive (`remainders`):

    erasure-TOKEN      proof.json: of each fold, up to which step it can be made again without the user
    fold-FOLD-TOKEN    what stands in for the user's rows in its steps; see `rl.provenance.remainders`

A proof is made before the rows are deleted. It counts from the moment that they are: until then it says only by a hash
who is to be forgotten, for a call that goes on where a killed one has stopped.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class FoldProof(BaseModel):
    """What can be said of a fold without the user's rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    through: int
    """The last step that can be made again; -1: none, if it has learned from the user."""
    kept: bool = False
    """Whether anything stands in for their rows; where nothing does, none of its steps has learned from them."""
    origin: tuple[str, int] | None = None
    """The fold and the step that it began from."""
    until: datetime
    """When its last step was made."""


class Proof(BaseModel):
    """What is kept of one erasure."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    token: str
    """Its name; of the objects that belong to it too."""
    asked: str | None
    """Hash of the token and the user's id, until they are gone from the log."""
    erasure: tuple[int, datetime] | None = None
    """Position and time of the log's note that the rows were deleted. It counts if the log has this note; None: they
    are not deleted yet."""
    learned: bool
    """Whether a fold may have learned from them; else all can be made again."""
    folds: Mapping[str, FoldProof] = {}

    def is_of(self, user_id: str) -> bool:
        """Return whether it is that of a user who is being forgotten."""
        return self.asked is not None and hmac.compare_digest(self.asked, _hash(self.token, user_id))

    def covers(self, fold_id: str, number: int) -> bool:
        """Return whether a fold can be made again up to a step without the user's rows."""
        if not self.learned:
            return True
        fold = self.folds.get(fold_id)
        if fold is None or fold.through < number:
            return False
        return fold.origin is None or self.covers(*fold.origin)


def begin_proof(user_id: str) -> Proof:
    """Return a proof for a user of whom no fold has learned."""
    token = secrets.token_hex(8)
    return Proof(token=token, asked=_hash(token, user_id), learned=False)


def _hash(token: str, user_id: str) -> str:
    return hashlib.sha256(f"{token} {user_id}".encode("utf-8", "surrogatepass")).hexdigest()
