"""What all commands do alike."""

import errno
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

import data.command
from data.command import DONE, INTERRUPTED, REFUSED, argument_parser, command, seconds, whole
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
    if numbers == ["fault"]:
        raise OSError(numbers)
    if numbers == ["file"]:
        Path(__file__, "none").read_text()
    if numbers == ["full"]:
        raise OSError(errno.ENOSPC, "No space left on device")
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
    assert total(["file"]) == REFUSED
    assert capsys.readouterr() == ("", f"data.sum: {__file__}/none: Not a directory\n")
    assert total(["full"]) == REFUSED
    assert capsys.readouterr() == ("", "data.sum: [Errno 28] No space left on device\n")
    for bug, raised in (("bug", KeyError), ("fault", OSError)):  # faults of the code
        with pytest.raises(raised):
            total([bug])
    with pytest.raises(SystemExit, match="2"):
        total([])
    assert "usage: python -m data.sum" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "8", "-1", "1.5", "", "x", "nan", "1e3"])
def test_a_number_out_of_bounds_is_refused_with_the_bounds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argument_parser("data.sum", None)
    parser.add_argument("--clients", type=whole(1, 7))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([f"--clients={text}"])
    assert capsys.readouterr().err.endswith(f"--clients: expected a whole number from 1 to 7, got {text!r}\n")
    assert parser.parse_args(["--clients", "7"]).clients == 7


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "", "x"])
def test_what_is_no_number_of_seconds_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argument_parser("data.sum", None)
    parser.add_argument("--drain", type=seconds)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([f"--drain={text}"])
    assert capsys.readouterr().err.endswith(f"--drain: expected a number of seconds from 0, got {text!r}\n")
    assert parser.parse_args(["--drain", "0.5"]).drain == 0.5


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
    modules = [module for module in (path.with_suffix(".py"), path / "run.py", path / "__main__.py") if module.exists()]
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


@pytest.mark.heavy
@pytest.mark.parametrize("module", ["data.dsjson", "data.ingest.run", "data.archive.run", "serve.keys", "rl.evaluate"])
def test_help_shows_no_secrets(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, url in {
        "RAYCOMMEND_STORE": "postgresql://shop:a-secret@db/shop",
        "RAYCOMMEND_ARCHIVE": "s3://key:a-secret@bucket/shop",
        "MLFLOW_TRACKING_URI": "https://shop:a-secret@tracker",
    }.items():
        monkeypatch.setenv(name, url)
    for arguments in (["--help"], ["export", "--help"]):
        with pytest.raises(SystemExit):
            import_module(module).main(arguments)
    assert "a-secret" not in "".join(capsys.readouterr())
