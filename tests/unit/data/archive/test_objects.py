"""Packed folders: on a local disk and in an object store alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data.archive.objects import ObjectDamaged, ObjectMissing, Objects
from data.errors import DataError
from tests.support.objects import object_store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


@pytest.fixture(params=["disk", "object store"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> str:
    if request.param == "disk":
        return str(tmp_path / "archive")
    return bucket.replace("shop?", f"shop/{tmp_path.name}?")


@pytest.fixture
def objects(uri: str, tmp_path: Path) -> Objects:
    return Objects.at(uri, "served", tmp_path / "cache")


def folder(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def contents(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


def stored(objects: Objects) -> list[str]:
    return [info.path for info in objects._infos()]


@pytest.mark.heavy
def test_any_node_reads_what_one_has_put(objects: Objects, uri: str, tmp_path: Path) -> None:
    objects.put("ab12", folder(tmp_path / "a", x="1", y="2"))
    objects.put("cd34", folder(tmp_path / "b", x=""))
    other_node = Objects.at(uri, "served", tmp_path / "cache of another node")
    assert other_node.names() == ["ab12", "cd34"]
    assert contents(other_node.get("ab12")) == {"x": "1", "y": "2"}
    assert contents(other_node.get("cd34")) == {"x": ""}
    assert (other_node.has("ab12"), other_node.has("ab")) == (True, False)


def test_the_same_files_are_one_object(objects: Objects, tmp_path: Path) -> None:
    objects.put("ab12", folder(tmp_path / "a", x="1"))
    objects.put("ab12", folder(tmp_path / "b", x="1"))
    assert len(stored(objects)) == 1


def test_what_is_replaced_is_gone_also_from_caches(objects: Objects, uri: str, tmp_path: Path) -> None:
    other_node = Objects.at(uri, "served", tmp_path / "cache of another node")
    objects.put("ab12", folder(tmp_path / "a", x="secret"))
    assert contents(objects.get("ab12")) == contents(other_node.get("ab12")) == {"x": "secret"}
    objects.replace("ab12", folder(tmp_path / "b", x="nothing"))
    assert len(stored(objects)) == 1
    assert contents(objects.get("ab12")) == contents(other_node.get("ab12")) == {"x": "nothing"}
    kept = [file.read_bytes() for cache in tmp_path.glob("cache*") for file in cache.rglob("*") if file.is_file()]
    assert kept == [b"nothing", b"nothing"]


def test_what_is_missing_damaged_or_deleted_is_said(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="has no ab12"):
        objects.get("ab12")
    objects.put("ab12", folder(tmp_path / "a", x="1"))
    (path,) = stored(objects)
    with objects.archive.filesystem.open_output_stream(path) as stream:
        stream.write(b"something else")
    with pytest.raises(ObjectDamaged, match="its name says"):
        objects.get("ab12")
    objects.delete("ab12")
    assert objects.names() == []


def test_a_damaged_cache_is_read_anew(objects: Objects, tmp_path: Path) -> None:
    objects.put("ab12", folder(tmp_path / "a", x="1", y="2"))
    cached = objects.get("ab12")
    (cached / "x").write_text("")
    (cached / "y").unlink()
    assert contents(objects.get("ab12")) == {"x": "1", "y": "2"}


def test_what_a_killed_writer_has_left_is_no_object(tmp_path: Path) -> None:
    objects = Objects.at(str(tmp_path), "served", tmp_path / "cache")
    objects.put("ab12", folder(tmp_path / "a", x="1"))
    (tmp_path / "served/_1234.new").write_bytes(b"half")
    assert objects.names() == ["ab12"]


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    uri = "s3://shop?endpoint_override=http://127.0.0.1:1"
    with pytest.raises(DataError, match="does not answer"):
        Objects.at(uri, "served", tmp_path / "cache").names()
    with pytest.raises(DataError, match="cannot use nowhere"):
        Objects.at("nowhere://shop", "served", tmp_path / "cache")
