"""Commands restore the signal handlers of the host process."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from secondpass.service.cli.main import main
from secondpass.service.server import serve as serving
from secondpass.service.server.signals import Interrupted, StartupSignals

NUMBERS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in NUMBERS]


def host_handler(number: int, frame: FrameType | None) -> None:
    """A signal handler of the host process."""


@pytest.fixture(
    params=[host_handler, signal.SIG_IGN, signal.SIG_DFL],
    ids=["own", "ignored", "default"],
    autouse=True,
)
def _initial_handlers(request: pytest.FixtureRequest) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, request.param)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "--port", "none"], 2),
        (["serve", "--no-such-flag"], 2),
        (["serve", "--config", "no-such-file.toml"], 2),
        (["serve", "--host", "no such host", "--engine", "scripted"], 2),
        (["check-config", "scripted.toml"], 0),
        (["check-config", "no-such-file.toml"], 2),
        (["no-such-command"], 2),
    ],
    ids=str,
)
def test_a_command_restores_the_handlers(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scripted.toml").write_text('[engines.fake]\nkind = "scripted"\n')
    before = handlers()
    assert main(arguments) == code
    assert handlers() == before


@pytest.mark.parametrize("number", NUMBERS)
def test_serve_restores_the_handlers_after_a_signal_during_startup(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(serving, "_log", interrupted)
    before = handlers()
    assert main(["serve", "--engine", "scripted"]) == 128 + number
    assert handlers() == before


def test_serve_restores_the_handlers_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(serving, "_log", broken)
    before = handlers()
    with pytest.raises(ZeroDivisionError):
        main(["serve", "--engine", "scripted"])
    assert handlers() == before


def test_check_raises_a_signal_received_during_startup() -> None:
    start = StartupSignals()
    with pytest.raises(Interrupted), start.handling_signals():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        start.check()
