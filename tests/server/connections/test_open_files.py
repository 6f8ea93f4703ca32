"""Open files: the limit of the process is raised for `max_connections`, or the settings are refused."""

import resource
from collections.abc import Iterator

import anyio
import pytest

from secondpass.service.common.errors import BadSettings
from secondpass.service.server.app import check
from secondpass.service.server.open_files import OTHER_FILES, allow_open_files, needed_files
from secondpass.service.server.serve import serve
from tests.http.serving import settings_of


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_every_engine_and_client_has_its_files() -> None:
    settings = settings_of(engine="scripted", max_connections=100, max_concurrent_calls=7)
    assert needed_files(settings) == 100 + 7 + OTHER_FILES


def test_the_soft_limit_is_raised_if_needed_and_never_lowered() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = settings_of(engine="scripted", max_connections=1000)
    needed = needed_files(settings)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed - 1, hard))
    allow_open_files(settings)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed, hard)
    allow_open_files(settings_of(engine="scripted", max_connections=1))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed, hard)


def test_more_connections_than_files_are_refused_with_the_highest_allowed_number() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine does not limit open files")
    settings = settings_of(engine="scripted", max_connections=hard)
    allowed = hard - (needed_files(settings) - hard)
    with pytest.raises(BadSettings, match=rf"max_connections: {hard} .* set at most {allowed}\b"):
        anyio.run(check, settings)
    with pytest.raises(BadSettings, match="max_connections"):
        allow_open_files(settings)
    allow_open_files(settings_of(engine="scripted", max_connections=allowed))


def test_serve_prints_the_problem_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine does not limit open files")
    assert serve(["--engine", "scripted", "--port", "0", "--max-connections", f"{hard}"]) == 2
    printed = capsys.readouterr().err
    assert f"max_connections: {hard} needs" in printed
    assert printed.count("\n") == 1
