"""Fixtures: the engines under the contract tests, scripted and vLLM over HTTP and in process."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from secondpass.strategies.api.engine import Engine
from tests.engines.contract_support import (
    HTTP,
    IN_PROCESS,
    Subject,
    http_subject,
    in_process_subject,
    scripted_subject,
)
from tests.engines.in_process import in_process_engine

if TYPE_CHECKING:
    from secondpass.service.engines.vllm.engine import VllmEngine


pytest.register_assert_rewrite(
    "tests.engines.contract.accounting", "tests.engines.contract.stop_strings"
)


# Module scope groups the tests by engine, so that the in-process engine starts only once.
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(HTTP, marks=pytest.mark.vllm),
        pytest.param(IN_PROCESS, marks=pytest.mark.vllm),
        ("scripted", "asyncio"),
        ("scripted", "trio"),
    ],
    ids="-".join,
)
def kind_and_backend(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture(scope="module")
def anyio_backend(kind_and_backend: tuple[str, str]) -> str:
    return kind_and_backend[1]


@pytest.fixture(scope="module")
async def in_process(kind_and_backend: tuple[str, str]) -> AsyncIterator["VllmEngine | None"]:
    if kind_and_backend != IN_PROCESS:
        yield None
        return
    async with in_process_engine() as engine:
        yield engine


@pytest.fixture
async def subject(
    kind_and_backend: tuple[str, str],
    in_process: "VllmEngine | None",
    request: pytest.FixtureRequest,
) -> AsyncIterator[Subject]:
    if kind_and_backend[0] == "scripted":
        yield scripted_subject()
    elif in_process is not None:
        yield in_process_subject(in_process)
    else:
        async with http_subject(request.getfixturevalue("vllm_server")) as served:
            yield served


@pytest.fixture
def engine(subject: Subject) -> Engine:
    return subject.engine
