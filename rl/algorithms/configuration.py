"""RLlib's configuration of an algorithm whose hyper-parameters are one model; Ray Tune may search in it.

DQNConfig().training(hyperparameters=DQNHyperparameters(lr=2e-3))
DQNConfig().training(lr=2e-3, network={"width": 16})
DQNConfig().training(lr=tune.grid_search([1e-3, 2e-3]))
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.tune.search.sample import Categorical
from ray.tune.search.variant_generator import parse_spec_vars

from data.errors import reason
from data.settings import Settings
from rl.algorithms.hyperparameters import Hyperparameters

_FIELD = "hyperparameters"


class HyperparameterConfig(AlgorithmConfig):
    """Base of our algorithms' configurations.

    `hyperparameters` is an object of `hyperparameters_class`. Its fields can be read from the configuration and set
    in it by their names, those that RLlib has too (`lr`, `gamma`, ...) among them: so whatever sets a field of a
    configuration, a search or a dictionary, sets them there, checked. While a search has yet to choose,
    `hyperparameters` is a dictionary.
    """

    hyperparameters_class: ClassVar[type[Hyperparameters]]

    def __init__(self, algo_class: type[Algorithm]) -> None:
        super().__init__(algo_class=algo_class)
        for name in self.hyperparameters_class.model_fields:  # RLlib's own defaults of what the model says
            self.__dict__.pop(name, None)
        self.hyperparameters: Any = self.hyperparameters_class()
        self.plain: bool = Settings().plain

    def training(
        self,
        *,
        hyperparameters: Hyperparameters | dict[str, Any] = NotProvided,
        plain: bool = NotProvided,
        **options: Any,
    ) -> Self:
        """Set what training does.

        Args:
            hyperparameters: all of them, as an object of `hyperparameters_class` or a dictionary.
            plain: train by RLlib's own ways alone, see `rl.algorithms.bypass`; default: as the settings say.
            options: single hyper-parameters by name, and those of `AlgorithmConfig.training`.

        Raises:
            ValueError: a value that cannot be trained with.
        """
        own = {name: options.pop(name) for name in [*options] if name in self.hyperparameters_class.model_fields}
        super().training(**options)
        if hyperparameters is not NotProvided:
            self.hyperparameters = hyperparameters
        if plain is not NotProvided:
            self.plain = plain
        if own:
            self.hyperparameters = dict(self.hyperparameters) | own
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.hyperparameters_class.model_fields and _FIELD in vars(self):
            name, value = _FIELD, dict(self.hyperparameters) | {name: value}
        super().__setattr__(name, check_hyperparameters(self.hyperparameters_class, value) if name == _FIELD else value)

    def __getattr__(self, name: str) -> Any:  # which is asked for what is no attribute
        if name in self.hyperparameters_class.model_fields and isinstance(vars(self).get(_FIELD), Hyperparameters):
            return getattr(vars(self)[_FIELD], name)
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    @property
    def train_batch_size_per_learner(self) -> Any:
        """The hyper-parameter, where the model has it: RLlib's property of this name would hide it."""
        if "train_batch_size_per_learner" in self.hyperparameters_class.model_fields:
            return self.__getattr__("train_batch_size_per_learner")
        return super().train_batch_size_per_learner

    @train_batch_size_per_learner.setter
    def train_batch_size_per_learner(self, value: int) -> None:
        self._train_batch_size_per_learner = value

    def validate(self) -> None:
        """Check what RLlib checks, and that no search has yet to choose.

        Raises:
            ValueError: one has.
        """
        if is_searched(self.hyperparameters):
            self._value_error(
                "hyperparameters are searched: only ray.tune.Tuner can run this configuration, a trial for each value"
            )
        super().validate()


def is_searched(value: Any) -> bool:
    """Return whether Ray Tune has yet to choose a value, or a part of it."""
    _, drawn, grids = parse_spec_vars({_FIELD: value})
    return bool(drawn or grids)


def check_hyperparameters(model: type[Hyperparameters], value: Any) -> Any:
    """Return hyper-parameters as an object; where a part is searched, a dictionary with every choice checked.

    Choices become objects, as Ray Tune would mix dictionaries up with what it puts in their place while it searches.

    Raises:
        ValueError: a value, or a choice, that cannot be trained with.
    """
    if not is_searched(value) or _is_choice(value):
        return _check_choices(lambda choice: _parse(model, choice), value)
    return {
        name: _check_choices(lambda choice, name=name: getattr(_parse(model, {name: choice}), name), field)  # type: ignore[misc]
        for name, field in value.items()
    }


def _check_choices(parse: Callable[[Any], Any], value: Any) -> Any:
    if not is_searched(value):
        return parse(value)
    if isinstance(value, Categorical):
        return Categorical([_check_choices(parse, choice) for choice in value.categories])
    if _is_choice(value):
        return {"grid_search": [_check_choices(parse, choice) for choice in value["grid_search"]]}
    return value  # a range, or a description of which a part is searched: checked when a trial begins


def _is_choice(value: Any) -> bool:
    return isinstance(value, Categorical) or (isinstance(value, dict) and value.keys() == {"grid_search"})


def _parse(model: type[Hyperparameters], value: Any) -> Hyperparameters:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, m['loc']))}: {reason(m)}, got {m['input']!r}" for m in error.errors()]
        raise ValueError("; ".join(mistakes)) from error
