"""The exported policy as an MLflow model, from code: a row a candidate in, a row a slot out. Run by MLflow."""

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from threadpoolctl import threadpool_limits

from rl.artefacts.artefact import load_served
from rl.encoders.visit import Visit

K = 10


class Scorer(PythonModel):
    """Encodes, scores and draws as our recommender does; logs nothing."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the policy."""
        threadpool_limits(1)
        self._artefact = load_folder(context)
        self._rng = np.random.default_rng(0)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the slate: items, scores and propensities."""
        items = model_input["item_id"].tolist()
        visit = Visit(str(model_input["user_id"].iat[0]), pd.Timestamp.now("UTC").to_pydatetime(), items)
        slates = self._artefact.policy.decide(self._artefact.encoder.query([visit]), K, self._rng)
        return pd.DataFrame(
            {
                "item_id": [items[position] for position in slates.positions[0].tolist()],
                "score": slates.scores[0],
                "propensity": slates.propensities[0],
            }
        )


def load_folder(context: PythonModelContext) -> Any:
    """Load the artefact that the model was logged with."""
    from pathlib import Path

    return load_served(Path(context.artifacts["policy"]))


mlflow.models.set_model(Scorer())
