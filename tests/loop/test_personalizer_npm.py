"""The official JavaScript clients of Personalizer, unmodified, over real HTTP. Needs npm and its registry."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.packages import needs_package
from tests.support.personalizers import KEY, actions, over_http, personalizer_loop

pytestmark = [pytest.mark.slow, needs_package("npm")]

_PACKAGES = (
    "@azure/cognitiveservices-personalizer@2.0.1",
    "@azure/ms-rest-js@2",
    "@azure-rest/ai-personalizer@1.0.0-beta.1",
    "@azure/core-auth@1",
)
_STABLE = """
const { PersonalizerClient } = require("@azure/cognitiveservices-personalizer");
const { ApiKeyCredentials } = require("@azure/ms-rest-js");
const [url, key, body] = process.argv.slice(2);
const credentials = new ApiKeyCredentials({ inHeader: { "Ocp-Apim-Subscription-Key": key } });
const client = new PersonalizerClient(credentials, url);
(async () => {
  const answer = await client.rank(JSON.parse(body));
  await client.events.activate(answer.eventId);
  await client.events.reward(answer.eventId, { value: 0.5 });
  console.log(JSON.stringify(answer));
})();
"""
_PREVIEW = """
const made = require("@azure-rest/ai-personalizer");
const { AzureKeyCredential } = require("@azure/core-auth");
const [url, key, body] = process.argv.slice(2);
const make = made.default.default || made.default;
const client = make(url, new AzureKeyCredential(key), { allowInsecureConnection: true });
(async () => {
  const expect = (response, status) => {
    if (response.status !== status) throw new Error(response.status + " " + JSON.stringify(response.body));
    return response.body;
  };
  const answer = expect(await client.path("/rank").post({ body: JSON.parse(body) }), "201");
  expect(await client.path("/events/{eventId}/activate", answer.eventId).post(), "204");
  expect(await client.path("/events/{eventId}/reward", answer.eventId).post({ body: { value: 0.5 } }), "204");
  const service = expect(await client.path("/configurations/service").get(), "200");
  const changed = { ...service, explorationPercentage: 0.1 };
  const put = expect(await client.path("/configurations/service").put({ body: changed }), "200");
  expect(await client.path("/configurations/policy").get(), "200");
  console.log(JSON.stringify({ ...answer, explorationPercentage: put.explorationPercentage }));
})();
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    try:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *_PACKAGES],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=400,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install the clients: {error}")
    return folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with personalizer_loop(tmp_path_factory.mktemp("home")) as loop, over_http(loop.app) as url:
        yield url


@pytest.mark.parametrize("script", [_STABLE, _PREVIEW], ids=["stable", "preview"])
def test_a_javascript_client(node: Path, url: str, script: str, request: pytest.FixtureRequest) -> None:
    path = node / f"{request.node.callspec.id}.cjs"
    path.write_text(script)
    body = {
        "actions": actions("a", "b", "c"),
        "contextFeatures": [{"weather": "snowy"}],
        "excludedActions": ["b"],
        "eventId": path.stem,
        "deferActivation": True,
    }
    done = subprocess.run(
        ["node", str(path), url, KEY, json.dumps(body)],
        cwd=node,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert answer["eventId"] == path.stem
    assert answer["rewardActionId"] in ("a", "c")
    assert sum(one["probability"] for one in answer["ranking"]) == pytest.approx(1)
    if script is _PREVIEW:
        assert answer["explorationPercentage"] == 0.1
