"""What all commands do alike."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import data.command
from data.command import DONE, INTERRUPTED, REFUSED, argument_parser, command
from data.errors import DataError

REPOSITORY = Path(data.command.__file__).parents[1]
CHILDREN = {"rl.provenance.erasure"}
"""Started by the project's own processes, not by people."""
COMMANDS = sorted(
    {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
        for floor in ("data", "rl", "serve")
        for path in (REPOSITORY / floor).rglob("*.py")
        if "sys.exit(main())" in path.read_text()
    }
    - CHILDREN
)


@command("data.sum")
def total(arguments: Sequence[str]) -> int:
    """Add."""
    parser = argument_parser("data.sum", "Add numbers.\nNever letters.")
    parser.add_argument("numbers", nargs="+")
    numbers = parser.parse_args(arguments).numbers
    if numbers == ["stop"]:
        raise KeyboardInterrupt
    if numbers == ["bug"]:
        raise KeyError(numbers)
    if wrong := [number for number in numbers if not number.isdigit()]:
        raise DataError(f"not a number: {wrong[0]}")
    print(sum(map(int, numbers)))
    return DONE


def test_errors_are_one_message_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert total(["1", "2"]) == DONE
    assert capsys.readouterr() == ("3\n", "")
    assert total(["1", "x"]) == REFUSED
    assert capsys.readouterr() == ("", "data.sum: not a number: x\n")
    assert total(["stop"]) == INTERRUPTED
    assert capsys.readouterr() == ("", "data.sum: interrupted\n")
    with pytest.raises(KeyError):  # a fault of the code
        total(["bug"])
    with pytest.raises(SystemExit, match="2"):
        total([])
    assert "usage: python -m data.sum" in capsys.readouterr().err


def test_without_arguments_those_of_the_process_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sum", "4", "5"])
    assert total() == DONE
    assert capsys.readouterr().out == "9\n"


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 11
    assert {"data.ingest", "rl.train", "serve.demo"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_made_by_the_helper(name: str) -> None:
    path = REPOSITORY.joinpath(*name.split("."))
    modules = [module for module in (path.with_suffix(".py"), path / "run.py") if module.exists()]
    assert any(f'@command("{name}")\ndef main(' in module.read_text() for module in modules)


@pytest.mark.heavy
def test_a_refusal_ends_the_process_with_its_status(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rl.export", str(tmp_path / "none"), "--out", str(tmp_path / "out")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == REFUSED
    assert done.stderr.startswith("rl.export: no policy in ")
