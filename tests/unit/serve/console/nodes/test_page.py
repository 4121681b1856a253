"""The page of data: what admins and readers see of rejects, and what a file that is tried is answered."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.log.current import keys
from data.log.store import Store
from serve.console.desk import ServiceDesk
from tests.support.clocks import Clock
from tests.support.consoles import Browser
from tests.support.experiments import receive
from tests.support.shops import shop_service

pytestmark = pytest.mark.heavy


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    clock = Clock(datetime.now(UTC) - timedelta(minutes=20))
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        receive(store, clock)
        yield store


def visit(store: Store, home: Path, role: keys.Role) -> Browser:
    browser = Browser(ServiceDesk(shop_service(store)), store, home=str(home))
    browser.client.__enter__()
    assert browser.log_in(keys.create(store, role, role)).status_code == 303
    return browser


def test_values_are_for_admins_and_their_form_for_readers(store: Store, tmp_path: Path) -> None:
    admin, reader = (visit(store, tmp_path, role).get("/data/activity").text for role in ("admin", "reader"))
    assert "anna@example.org" in admin
    assert "anna" not in reader
    assert "xxxx@xxxxxxx.xxx" in reader
    assert "type of customer" in reader
    for html in (admin, reader):
        assert "<b>online_retail</b>" in html
        assert 'data-chart="{&#34;digits&#34;' in html or "data-chart='{" in html


def test_a_reader_can_neither_try_a_file_nor_look_for_drift(store: Store, tmp_path: Path) -> None:
    reader = visit(store, tmp_path, "reader")
    assert 'id="try"' not in reader.get("/data").text
    for path in ("/data/try?node=online_retail&file=a.csv", "/data/drift"):
        assert reader.post(path, {}).status_code == 403


@pytest.mark.parametrize(
    ("node", "file", "content", "status", "says"),
    [
        ("nowhere", "a.csv", b"x\n", 404, "no node &#39;nowhere&#39; is declared here"),
        ("clickstream", "a.xls", b"x\n", 409, "cannot tell the format of a.xls"),
        ("clickstream", "../../a.csv", b"x\n", 409, "a.csv lacks"),
        ("clickstream", "a.csv", b"x" * 2_000_000, 413, "the body may have 1048576 bytes"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_words(
    store: Store, tmp_path: Path, node: str, file: str, content: bytes, status: int, says: str
) -> None:
    admin = visit(store, tmp_path, "admin")
    headers = {"x-token": admin.token("/data"), "hx-request": "true"}
    answer = admin.client.post(f"/data/try?node={node}&file={file}", content=content, headers=headers)
    assert answer.status_code == status
    assert says in answer.text
