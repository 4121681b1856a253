"""The settings that ship, and mistakes in them."""

from pathlib import Path

import pytest

from rl import continuous
from rl.config import parse_config
from rl.continuous.specification import ContinuousSpec
from rl.training.run.toml import dumps

SHIPPED = sorted((Path(continuous.__file__).parents[1] / "experiments" / "continuous").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_those_that_ship_load_and_are_resolved_to_the_same(path: Path, tmp_path: Path) -> None:
    spec = parse_config(ContinuousSpec, [str(path)])
    (tmp_path / "resolved.toml").write_text(dumps(spec.resolved()))
    again = parse_config(ContinuousSpec, [str(tmp_path / "resolved.toml")])
    assert again.resolved() == spec.resolved()
    assert "trigger" not in spec.resolved()  # when a run begins may change while one has not ended


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name: Field required"),
        (["--name", "shop", "--data.held_out", "1"], "data.held_out: Input should be less than 1"),
        (["--name", "shop", "--nonsense", "1"], "nonsense"),
        (["--name", "shop", "--reward.wait_s", "5", "--gate.reward.wait_s", "6"], "gate.reward must be reward"),
    ],
)
def test_mistakes_are_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_config(ContinuousSpec, arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
