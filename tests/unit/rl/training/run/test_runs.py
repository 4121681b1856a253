"""The folder of a run: what is continued, what is refused, and what a kill leaves behind."""

from pathlib import Path

import pytest

from rl.training.run.errors import TrainingError
from rl.training.run.runs import Progress, RunFolder, read_progress

CONFIG = {"env_steps": 100, "dqn": {"lr": 0.1}}


class Algorithm:
    """Saves a single file."""

    def __init__(self, dies: bool = False) -> None:
        self._dies = dies

    def save_to_path(self, path: str) -> None:
        Path(path).mkdir(exist_ok=True)  # as RLlib does
        (Path(path) / "state").write_text("learned")
        if self._dies:
            raise KeyboardInterrupt


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "shop")
    with folder.lock():
        assert folder.begin(CONFIG, fresh=False) is None
    return folder


def again(folder: RunFolder, fresh: bool = False, **changes: object) -> tuple[RunFolder, Path | None]:
    other = RunFolder(folder.path)
    return other, other.begin(CONFIG | changes, fresh=fresh)


def test_an_unfinished_run_is_continued_from_its_last_checkpoint(folder: RunFolder) -> None:
    for steps in (10, 20):
        folder.save(Algorithm(), Progress(steps, 1.5, [{"env_steps": steps, "return": 2.0}]))
    other, checkpoint = again(folder)
    assert checkpoint is not None
    assert read_progress(checkpoint) == Progress(20, 1.5, [{"env_steps": 20, "return": 2.0}])
    assert (other.id, other.continued) == (folder.id, True)
    assert [path.name for path in folder.path.glob("checkpoint*")] == ["checkpoint-000000000020"]


def test_a_run_killed_while_saving_is_continued_from_the_checkpoint_before(folder: RunFolder) -> None:
    folder.save(Algorithm(), Progress(10))
    with pytest.raises(KeyboardInterrupt):
        folder.save(Algorithm(dies=True), Progress(20))
    _, checkpoint = again(folder)
    assert checkpoint is not None
    assert read_progress(checkpoint).env_steps == 10
    assert read_progress(folder.save(Algorithm(), Progress(20))).env_steps == 20  # the half-written one is no hindrance


def test_a_run_killed_before_its_first_checkpoint_begins_again_as_the_same_run(folder: RunFolder) -> None:
    other, checkpoint = again(folder)
    assert checkpoint is None
    assert other.id == folder.id


def test_another_configuration_is_refused_with_what_differs(folder: RunFolder) -> None:
    with pytest.raises(TrainingError, match=r"dqn\.lr 0\.1 instead of 0\.2, env_steps 100 instead of 50: .*--fresh"):
        again(folder, env_steps=50, dqn={"lr": 0.2})


def test_fresh_begins_anew(folder: RunFolder) -> None:
    folder.save(Algorithm(), Progress(10))
    other, checkpoint = again(folder, fresh=True, env_steps=50)
    assert checkpoint is None
    assert other.id != folder.id
    assert not list(folder.path.glob("checkpoint*"))


def test_a_finished_run_is_not_continued(folder: RunFolder) -> None:
    folder.save(Algorithm(), Progress(100))
    folder.finish(CONFIG)
    other, checkpoint = again(folder, env_steps=50)
    assert checkpoint is None
    assert other.id != folder.id


def test_two_processes_do_not_train_the_same_run(folder: RunFolder) -> None:
    with folder.lock(), pytest.raises(TrainingError, match="another process trains"), RunFolder(folder.path).lock():
        pass
    with RunFolder(folder.path).lock():  # the lock ends with its owner
        pass
