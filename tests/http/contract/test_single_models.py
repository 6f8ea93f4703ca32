"""GET /v1/models/{id}: one entry of the list of models."""

from collections.abc import Iterator
from urllib.parse import quote

import openai
import pytest
from openai import AsyncOpenAI

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies import STRATEGIES
from tests.http.serving import Served, serving

MODELS = ("scripted", "Qwen/Qwen3-8B", "a@b", "gpt-4o mini", "models/größe")


@pytest.fixture(scope="module", params=MODELS)
def named(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(ScriptedEngine(model=request.param), model=request.param) as running:
        yield running


def test_every_listed_model_is_returned_by_its_id(named: Served) -> None:
    listed = named.get("/v1/models").json()["data"]
    assert len(listed) == 1 + len(STRATEGIES)
    for entry in listed:
        for path in (quote(entry["id"]), quote(entry["id"], safe="")):
            reply = named.get(f"/v1/models/{path}")
            assert (reply.status_code, reply.json()) == (200, entry)


def test_head_is_answered_like_get(served: Served) -> None:
    with served.client() as client:
        assert client.head("/v1/models/scripted").status_code == 200
        assert client.head("/v1/models/other").status_code == 404


@pytest.mark.parametrize(
    "name",
    ["gpt", "scripted@guessing", "scripted@", "scripted/", "other@single", "", "a/b", "x" * 5000],
)
def test_an_unknown_model_is_a_404_in_openais_shape(served: Served, name: str) -> None:
    reply = served.get(f"/v1/models/{name}")
    error = reply.json()["error"]
    assert reply.status_code == 404
    assert error["param"] == "model"
    assert error["code"] == "model_not_found"
    assert error["type"] == "not_found_error"
    assert "allowed: scripted, scripted@critic_retry" in error["message"]
    assert error["message"].count("x") < 200


@pytest.mark.anyio
@pytest.mark.compat
async def test_openais_client_retrieves_models(named: Served) -> None:
    async with AsyncOpenAI(base_url=f"{named.url}/v1", api_key="none") as client:
        async for model in client.models.list():
            found = await client.models.retrieve(model.id)
            assert found == model
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.models.retrieve("other/model")
    assert unknown.value.code == "model_not_found"
