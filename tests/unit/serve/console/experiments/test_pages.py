"""The page of experiments over a real registry and log: what it shows, who may change what, what a change asks."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from data.log.current import keys
from data.log.store import Store
from data.settings import Settings
from rl.registry import resolve_alias
from serve.abtests.changes import find_test, set_shares
from tests.support.consoles import URL
from tests.support.experiments import console_of, fill

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("RAYCOMMEND_HOME", str(home))
        fill(home, mlflow_tables)
        yield home


@pytest.fixture(scope="module")
def store(home: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{home / 'store.db'}")) as store:
        yield store


@pytest.fixture(scope="module")
def tokens(store: Store) -> dict[str, str]:
    roles: tuple[keys.Role, ...] = ("admin", "reader", "node")
    return {role: keys.create(store, role, role) for role in roles}


class Visitor:
    """A browser that has logged in."""

    def __init__(self, client: TestClient, key: str) -> None:
        self.client = client
        token = self.token("/login")
        assert client.post("/login", data={"token": token, "key": key}).status_code == 303

    def token(self, path: str) -> str:
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.client.get(path).text)
        assert found is not None
        return found[1]

    def get(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return " ".join(answer.text.split())

    def send(self, path: str, **changed: str) -> Response:
        """Send the form of a question, with fields changed."""
        page = self.client.get(path).text
        form = page[page.index('<main id="main"') :]
        action = re.search(r'<form method="post" action="([^"]+)"', form)
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
        assert action is not None
        plain = {name: value.replace("&#34;", '"') for name, value in fields.items()}
        answer: Response = self.client.post(action[1], data=plain | changed)
        return answer


@pytest.fixture(scope="module")
def client(home: Path, store: Store, tokens: dict[str, str]) -> Iterator[TestClient]:
    with TestClient(console_of(home, store), base_url=URL, follow_redirects=False) as client:
        yield client


@pytest.fixture
def admin(client: TestClient, tokens: dict[str, str]) -> Visitor:
    return Visitor(client, tokens["admin"])


@pytest.fixture
def reader(client: TestClient, tokens: dict[str, str]) -> Visitor:
    return Visitor(client, tokens["reader"])


def test_the_registry_is_shown_with_what_the_gate_has_said(admin: Visitor) -> None:
    html = admin.get("/experiments/registry")
    assert 'Version 1 <span class="muted">chance</span>' in html
    learner, other = html.index("Version 2"), html.index("Version 3")
    assert learner < other  # who has an alias comes first
    assert "Better: after" in html[learner:other]
    assert re.search(r"Not promoted, after [\d,]+ decisions \+?-?\d", html[other:])
    assert html.count("Effective decisions") == 2


def test_the_report_shows_the_verdict_and_comes_as_a_file_that_no_browser_runs(admin: Visitor) -> None:
    found = re.search(r"/experiments/reports/[0-9a-f]{32}", admin.get("/experiments/registry"))
    assert found is not None
    html = admin.get(found[0])
    assert "Better: after" in html
    assert "page = page0" in html  # a guarded segment
    assert html.count("data-chart=") == 2
    file = admin.client.get(f"{found[0]}?file=true")
    assert file.headers["content-disposition"].startswith("attachment; ")
    assert "'unsafe-inline'" not in file.headers["content-security-policy"]
    assert file.text.startswith("<!doctype html>")
    assert admin.client.get("/experiments/reports/nowhere").status_code == 409


def test_a_scorecard_has_health_decision_intervals_and_guardrails(admin: Visitor) -> None:
    html = admin.get("/experiments/tests/greener/card?whole=true")
    assert "4,800 decisions for 1,200 users" in html
    assert "new is better: it earns +12" in html
    assert 'complaint <span class="muted small">guardrail</span>' in html
    assert html.count('<svg class="span good"') == 1
    assert "page=page0" in html
    assert "data-chart=" in html  # users over two days


@pytest.mark.parametrize(
    "path",
    [
        "/experiments/promote?version=2",
        "/experiments/rollback",
        "/experiments/start",
        "/experiments/tests/greener/stop",
        "/experiments/tests/greener/off?variant=new",
        "/experiments/tests/greener/shares?share.old=50&share.new=50",
    ],
)
def test_readers_see_everything_and_are_asked_and_may_change_nothing(reader: Visitor, path: str) -> None:
    page = reader.get("/experiments") + reader.get("/experiments/registry") + reader.get("/experiments/tests/greener")
    assert not re.search(r"href=\"[^\"]*/(promote|rollback|start|stop|off)", page)
    assert reader.client.get(path).status_code == 403
    target = path.partition("?")[0]
    sent = reader.client.post(target, headers={"x-token": reader.token("/experiments")})
    assert sent.status_code in (403, 405)


def test_a_form_of_no_page_of_ours_changes_nothing(admin: Visitor, store: Store) -> None:
    before = find_test(store, "greener")
    fields = {"seen": "1", "shares": '{"old": 0.5, "new": 0.5}'}
    assert admin.client.post("/experiments/tests/greener/shares", data=fields).status_code == 403
    assert find_test(store, "greener") == before


def test_shares_change_as_the_question_has_said(admin: Visitor, store: Store) -> None:
    question = "/experiments/tests/greener/shares?share.old=50&share.new=50&why=faster"
    html = admin.get(question)
    assert "30 % of all users move from old to new." in html
    assert "shares greener old=0.8 new=0.2" in html  # how to undo it
    assert find_test(store, "greener").shares == {"old": 0.8, "new": 0.2}  # nothing has changed yet
    assert admin.send(question).headers["location"] == "/experiments/tests/greener"
    state = find_test(store, "greener")
    assert (state.shares, state.history[-1].by, state.history[-1].why) == ({"old": 0.5, "new": 0.5}, "admin", "faster")


def test_what_somebody_else_has_changed_meanwhile_is_looked_at_again(admin: Visitor, store: Store) -> None:
    question = "/experiments/tests/greener/shares?share.old=10&share.new=90"
    seen = str(len(find_test(store, "greener").history))
    set_shares(store, "greener", {"old": 0.6, "new": 0.4}, by="bob")
    answer = admin.send(question, seen=seen)
    assert answer.status_code == 409
    assert "bob has changed greener since (shares)" in answer.text
    assert find_test(store, "greener").shares == {"old": 0.6, "new": 0.4}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("share.old=80&share.new=30", "sum to more than 0 and at most 1, got 1.1"),
        ("share.old=80&share.new=many", "expected percent, such as 12.5, got &#39;many&#39;"),
        ("share.old=80", "expected percent"),
        ("share.old=-5&share.new=5", "a share is from 0 to 1"),
    ],
)
def test_shares_that_are_none_are_refused_in_words(admin: Visitor, query: str, says: str) -> None:
    answer = admin.client.get(f"/experiments/tests/greener/shares?{query}")
    assert answer.status_code == 422
    assert says in answer.text


def test_a_test_is_started_switched_off_and_stopped(admin: Visitor, store: Store) -> None:
    wrong = admin.get("/experiments/start?name=bad+name&policy0=linear_thompson&policy1=rfm_bandit")
    assert "name: String should match pattern" in wrong
    assert 'value="bad name"' in wrong  # what was written is not lost
    query = (
        "name=quick&policy0=linear_thompson&name1=other&policy1=random&share0=70&share1=10&guardrails=complaint%3D-1"
    )
    html = admin.get(f"/experiments/start?{query}&why=curious")
    assert "20 % of the users are answered as configured." in html
    assert admin.send(f"/experiments/start?{query}&why=curious").headers["location"] == "/experiments/tests/quick"
    state = find_test(store, "quick")
    assert (state.shares, state.test.read.guardrails) == ({"control": 0.7, "other": 0.1}, {"complaint": -1.0})
    assert (state.started_by, state.history[0].why) == ("admin", "curious")
    html = admin.get("/experiments/tests/quick/off?variant=other")
    assert "10 % of all users move from other to control." in html
    admin.send("/experiments/tests/quick/off?variant=other")
    assert find_test(store, "quick").switched_off == ("other",)
    assert admin.client.get("/experiments/tests/quick/off?variant=control").status_code == 409
    admin.send("/experiments/tests/quick/stop", why="seen enough")
    state = find_test(store, "quick")
    assert (state.stopped_at is not None, state.history[-1].why) == (True, "seen enough")
    assert admin.client.get("/experiments/tests/quick/stop").status_code == 409
    assert "stop" not in re.findall(r"quick/(\w+)\"", admin.get("/experiments/tests/quick"))


def test_a_promotion_by_force_needs_a_reason_and_says_who_is_affected(admin: Visitor, home: Path) -> None:
    html = admin.get("/experiments/promote?version=3&force=true")
    assert "version 1 (chance," in html
    assert "The reason stays in the report, in the registry and in the service&#39;s health." in html
    assert 'name="force" maxlength="1000" autocomplete="off" required' in html
    assert admin.client.get("/experiments/promote?version=1").status_code == 409  # it is the champion
    assert admin.client.get("/experiments/promote?version=99").status_code == 409
    assert admin.client.get("/experiments/rollback").status_code == 409  # nothing was promoted
    champion = resolve_alias(Settings(home=home, store=None, archive=None))
    assert champion is not None
    assert champion.version == 1
