"""Settings come from the environment, or from files that it names."""

from pathlib import Path

import pytest

from data.errors import DataError
from data.settings import Settings
from serve.config import Secrets

URL = "postgresql://raycommend:secret@db/raycommend"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "value"
    path.write_text(f"{URL}\n")
    return path


@pytest.mark.parametrize(("name", "field"), [("RAYCOMMEND_STORE", "store"), ("MLFLOW_TRACKING_URI", "tracking")])
def test_a_setting_may_lie_in_a_file(name: str, field: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{name}_FILE", str(file))
    assert getattr(Settings(), field) == URL


def test_the_key_may_lie_in_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYCOMMEND_API_KEY", raising=False)
    assert Secrets().api_key is None
    monkeypatch.setenv("RAYCOMMEND_API_KEY_FILE", str(file))
    secrets = Secrets()
    assert secrets.api_key is not None
    assert secrets.api_key.get_secret_value() == URL
    assert URL not in repr(secrets)


def test_what_the_code_gives_comes_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCOMMEND_STORE_FILE", str(file.with_name("none")))
    assert Settings(store=None).store is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI_FILE", str(file.with_name("none")))
    assert Settings(store=None, tracking="http://tracker").tracking == "http://tracker"


def test_a_variable_and_its_file_are_one_too_many(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCOMMEND_STORE", "sqlite:///here")
    monkeypatch.setenv("RAYCOMMEND_STORE_FILE", str(file))
    with pytest.raises(DataError, match="RAYCOMMEND_STORE and RAYCOMMEND_STORE_FILE are both set: one must go"):
        Settings()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYCOMMEND_STORE", raising=False)
    monkeypatch.setenv("RAYCOMMEND_STORE_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"RAYCOMMEND_STORE_FILE: .*/none: No such file or directory"):
        Settings()
    (tmp_path / "none").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"RAYCOMMEND_STORE_FILE: .*/none: it is not text in UTF-8"):
        Settings()


@pytest.mark.parametrize(("content", "lines"), [("", 0), ("\n", 1), (f"{URL}\n\n", 2), (f"{URL}\r\n{URL}\r\n", 2)])
def test_a_file_without_a_value_or_with_several_is_refused_and_not_shown(
    content: str, lines: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty key would be none, and the service open to all."""
    file.write_text(content)
    monkeypatch.delenv("RAYCOMMEND_API_KEY", raising=False)
    monkeypatch.setenv("RAYCOMMEND_API_KEY_FILE", str(file))
    with pytest.raises(
        DataError, match=rf"RAYCOMMEND_API_KEY_FILE: .*: expected one line with the value, got {lines}"
    ) as error:
        Secrets()
    assert "secret" not in str(error.value)


def test_files_of_others_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    Settings()
