"""Sessions, forged forms, roles and headers of the console, as a browser meets them. Without Ray."""

import re
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

import pytest
import sqlalchemy as sa

from data.log.current import keys, sessions
from data.log.store import Store
from data.log.tables import SESSIONS
from serve.config import ConsoleConfig
from serve.console.sessions import Sessions
from serve.console.visitors import COOKIE
from serve.http.keys import KeyRing
from tests.support.clocks import Clock
from tests.support.consoles import URL, Browser, browsing

ADMIN, READER, NODE = "admin", "reader", "node"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(store: Store) -> dict[str, str]:
    return {role: keys.create(store, role, role) for role in (ADMIN, READER, NODE)}  # type: ignore[arg-type]


@pytest.fixture
def browser(store: Store, tokens: dict[str, str]) -> Iterator[Browser]:
    with browsing(store, "/console") as browser:
        yield browser


def cookie(browser: Browser) -> str:
    found = browser.client.cookies.get(COOKIE)
    assert found is not None
    return str(found)


def test_without_a_session_every_page_leads_to_the_login_page_and_from_there_back(
    browser: Browser, tokens: dict[str, str]
) -> None:
    answer = browser.get("/decision?id=7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login?next=/decision%3Fid%3D7")
    assert browser.get("/login").status_code == 200
    answer = browser.log_in(tokens[READER], "/decision?id=7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/decision?id=7")
    assert browser.get("/decision").status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nb", "x"])
def test_a_login_leads_to_no_other_site(browser: Browser, tokens: dict[str, str], elsewhere: str) -> None:
    assert browser.log_in(tokens[READER], elsewhere).headers["location"] == "/console/"


def test_the_cookie_is_new_for_this_site_alone_and_not_for_scripts(browser: Browser, tokens: dict[str, str]) -> None:
    browser.get("/login")
    before = cookie(browser)
    answer = browser.log_in(tokens[READER])
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"httponly", "max-age=43200", "path=/console", "samesite=strict", "secure"}
    assert cookie(browser) != before  # one that somebody else has set is worth nothing


@pytest.mark.parametrize("key", ["", "wrong", "rk_0123456789abcdef_" + "x" * 43])
def test_a_wrong_key_is_refused_with_what_to_do(browser: Browser, key: str) -> None:
    answer = browser.log_in(key)
    assert answer.status_code == (422 if key == "" else 401)
    assert browser.get("/decision").status_code == 303


def test_neither_key_nor_cookie_is_kept_in_the_log(browser: Browser, store: Store, tokens: dict[str, str]) -> None:
    browser.log_in(tokens[READER])
    with store.reading() as connection:
        [row] = connection.execute(sa.select(SESSIONS)).all()
    assert not any(secret in str(row) for secret in (cookie(browser), tokens[READER], browser.token()))


def test_any_replica_takes_a_session_and_it_ends_with_logging_out(
    browser: Browser, store: Store, tokens: dict[str, str]
) -> None:
    browser.log_in(tokens[READER])
    with browsing(store, "/console") as other:
        other.client.cookies.set(COOKIE, cookie(browser), path="/console")
        assert other.get("/decision").status_code == 200
        assert browser.post("/logout", {}).headers["location"] == "/console/login"
        assert [one.get("/decision").status_code for one in (browser, other)] == [303, 303]


def test_a_session_ends_with_its_key_and_with_its_time(
    browser: Browser, store: Store, clock: Clock, tokens: dict[str, str]
) -> None:
    browser.log_in(tokens[READER])
    clock.advance(timedelta(hours=11.9).total_seconds())
    assert browser.get("/decision").status_code == 200
    keys.revoke(store, READER)
    browser.keys.refresh()
    assert browser.get("/decision").status_code == 303
    browser.log_in(tokens[ADMIN])
    clock.advance(timedelta(hours=12.1).total_seconds())
    assert browser.get("/decision").status_code == 303


def test_a_session_of_the_environments_key_ends_when_that_is_another_one(store: Store) -> None:
    begun = Sessions(store, KeyRing(store, "old"), timedelta(hours=1)).begin("old")
    assert begun is not None
    for key, role in (("old", "admin"), ("new", None)):
        found = Sessions(store, KeyRing(store, key), timedelta(hours=1)).find(begun.secret)
        assert found is not None
        assert (found.principal and found.principal.role) == role


def test_a_row_that_is_written_into_the_table_is_no_session(store: Store, tokens: dict[str, str]) -> None:
    ring = KeyRing(store)
    mine = Sessions(store, ring, timedelta(hours=1))
    secret, key_id = mine.make_secret(), keys.list_keys(store)[0].key_id
    begun = mine.begin(tokens[ADMIN])
    assert begun is not None
    with store.reading() as connection:
        stolen = connection.execute(sa.select(SESSIONS.c.proof)).scalar_one()
    sessions.begin(store, sha256(secret.encode()).hexdigest(), key_id, stolen, timedelta(hours=1))
    found = mine.find(secret)
    assert found is not None
    assert found.principal is None


def test_where_there_are_no_keys_all_are_let_in(store: Store) -> None:
    with browsing(store) as browser:
        assert browser.get("/decision").status_code == 200
        assert "Log out" not in browser.get("/decision").text
        assert browser.post("/nothing", {}, origin=URL).status_code == 403  # forged forms change nothing here either
        keys.create(store, "first", "admin")
        browser.keys.refresh()
        assert browser.get("/decision").status_code == 303


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_form_of_another_site_is_refused_even_with_a_token(
    browser: Browser, tokens: dict[str, str], headers: dict[str, str]
) -> None:
    browser.log_in(tokens[ADMIN])
    assert browser.post("/logout", {}, **{"x-token": browser.token()}, **headers).status_code == 403
    assert browser.get("/decision").status_code == 200


def test_a_form_without_its_sessions_token_is_refused(browser: Browser, store: Store, tokens: dict[str, str]) -> None:
    browser.log_in(tokens[ADMIN])
    with browsing(store, "/console") as other:
        foreign = other.token()
    for headers in ({"origin": URL}, {"x-token": foreign}, {"x-token": ""}, {"x-token": "é"}):
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        assert browser.client.post("/console/logout", headers=encoded).status_code == 403
    assert browser.client.post("/console/logout", data={"token": foreign}).status_code == 403
    assert browser.client.post("/console/logout", data={"token": browser.token()}).status_code == 303


def test_a_link_of_another_site_leads_back_to_the_session(browser: Browser, tokens: dict[str, str]) -> None:
    browser.log_in(tokens[READER])
    kept = cookie(browser)
    browser.client.cookies.clear()
    answer = browser.get("/decision", **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)  # the browser keeps what it has
    assert 'http-equiv="refresh"' in answer.text
    browser.client.cookies.set(COOKIE, kept, path="/console")
    assert browser.get("/decision", **{"sec-fetch-site": "same-origin"}).status_code == 200


def test_a_role_that_may_not_is_told_which_may(browser: Browser, tokens: dict[str, str]) -> None:
    browser.log_in(tokens[NODE])
    answer = browser.get("/decision")
    assert answer.status_code == 403
    assert "a key of role reader or admin may do this, and this one&#39;s is node" in answer.text


def test_everything_comes_from_here_and_nothing_inline(browser: Browser, tokens: dict[str, str]) -> None:
    browser.log_in(tokens[READER])
    for path, status in (("/login", 200), ("/decision", 200), ("/nowhere", 404), ("/static/console.css", 200)):
        answer = browser.get(path)
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        if "html" in answer.headers["content-type"]:
            assert not re.search(r"<script(?![^>]* src=)| style=| on[a-z]+=|(?:src|href)=\"(?!/console|#)", answer.text)


def test_pictures_come_from_the_origins_that_the_configuration_names(store: Store) -> None:
    with browsing(store, images=("https://img.example",)) as browser:
        policy = browser.get("/decision").headers["content-security-policy"]
        assert "img-src 'self' https://img.example;" in policy


@pytest.mark.parametrize(
    "origin", ["https://a.example; script-src *", "*", "data:", "https://a.example/path", "http://"]
)
def test_an_origin_of_pictures_changes_nothing_else_of_the_policy(origin: str) -> None:
    with pytest.raises(ValueError, match="images"):
        ConsoleConfig(images=(origin,))


def test_what_a_page_shows_is_escaped(store: Store) -> None:
    with browsing(store) as browser:
        answer = browser.get("/decision/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        assert answer.status_code == 404
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert(1)" in answer.text
