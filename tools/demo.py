"""What `make run` starts: a vLLM server, the service in front of it, and one question to try.

Both run as child processes in groups of their own; whichever way this program ends, they end with it.
The engine's log and the service's go to files, so that the terminal shows one line a step.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from tools import fetch_model
from tools.cache import log_folder
from tools.local_vllm import VllmServer, serve_vllm
from tools.processes import Child, ServerDidNotStart, is_free, serving

HOST = "127.0.0.1"
SERVICE_SECONDS = 60.0
QUESTION = "There are 10 rows of 10 chairs. What is 10 * 10, the number of chairs?"

ServiceCommand = Callable[[VllmServer, int], Sequence[str]]


class EngineServer(Protocol):
    """What `serve_vllm` is to the demo."""

    def __call__(
        self, model_dir: str, port: int | None, *, interrupt: Callable[[], None]
    ) -> AbstractContextManager[VllmServer]:
        """Serve `model_dir` while the block runs; `interrupt` is called while it starts."""


class Failed(RuntimeError):
    """The demo cannot go on; the message is for the person at the terminal."""


class Stopped(BaseException):
    """A signal asked for the end. Not an Exception: no handler of failures may take it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Steps:
    """Prints one line a step, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print `text` as the next line."""
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)


class Signals:
    """Remembers the first of SIGINT, SIGTERM, SIGHUP, to be raised where nothing can be left behind."""

    def __init__(self) -> None:
        self._number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number

    def check(self) -> None:
        """Raise Stopped if one of them came."""
        if self._number is not None:
            raise Stopped(self._number)


def secondpass_serve(engine: VllmServer, port: int) -> list[str]:
    """The command that serves secondpass in front of `engine`."""
    return [
        *(sys.executable, "-m", "secondpass.service", "serve"),
        *("--engine", "http", "--engine-url", engine.base_url, "--model", engine.model_name),
        *("--host", HOST, "--port", str(port)),
        *("--shutdown-grace-seconds", "5"),  # who presses Ctrl-C wants the prompt back
    ]


def example(port: int) -> str:
    """A curl command, for a POSIX shell, that asks the service one question."""
    body = {
        "question": QUESTION,
        "strategy": {"name": "self_consistency", "params": {"n": 5, "temperature": 0.5}},
        "task": {"kind": "math"},
        "sampling": {"max_tokens": 256},
        "budget": {"max_tokens": 2000, "deadline_ms": 60000},
    }
    return (
        f"curl -s http://{HOST}:{port}/solve -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}"
    )


def require_free(port: int, variable: str) -> None:
    """Raise Failed if something listens on `port`, which the make variable `variable` sets."""
    if not is_free(port):
        raise Failed(f"port {port} is in use; end what listens there, or set {variable} to another")


def get_model(step: Steps, signals: Signals) -> Path:
    """The demo model's folder; fetched, where it is missing, in a process that can be interrupted."""
    folder = fetch_model.model_folder()
    if folder.is_dir():
        return folder
    step(f"getting the model {fetch_model.NAME}")
    child = Child.start(
        "fetch_model",
        [sys.executable, "-m", "tools.fetch_model"],
        log_folder() / "fetch_model.log",
    )
    try:
        while child.exit_status() is None:
            signals.check()
            time.sleep(0.1)
    finally:
        child.stop()
    if child.exit_status() != 0:
        raise Failed(f"no model; end of {child.log_path}:\n{child.tail()}")
    return folder


def require_alive(*children: Child) -> None:
    """Raise Failed if one of them has ended."""
    for child in children:
        if (status := child.exit_status()) is not None:
            raise Failed(f"{child.name} ended ({status}); end of {child.log_path}:\n{child.tail()}")


def run(
    options: argparse.Namespace, serve_engine: EngineServer, service_command: ServiceCommand
) -> NoReturn:
    """Start everything and watch it until a signal comes (Stopped) or a part fails.

    Raises Failed or ServerDidNotStart where a part cannot start or dies.
    """
    step, signals = Steps(), Signals()
    port: int = options.port
    require_free(port, "PORT")
    if options.engine_port:
        require_free(options.engine_port, "ENGINE_PORT")
    model = options.model or str(get_model(step, signals))
    with ExitStack() as running:
        step(f"starting vLLM with {model} (about a minute without a GPU)")
        engine = running.enter_context(
            serve_engine(model, options.engine_port, interrupt=signals.check)
        )
        step(f"vLLM answers at {engine.base_url}; its log: {engine.log_path}")

        def watch(*others: Child) -> None:
            signals.check()
            require_alive(engine.process, *others)

        service = running.enter_context(
            serving(
                "secondpass",
                service_command(engine, port),
                f"http://{HOST}:{port}/readyz",
                log_folder() / f"secondpass-{port}.log",
                timeout=SERVICE_SECONDS,
                interrupt=watch,
            )
        )
        step(f"secondpass answers at http://{HOST}:{port}; its log: {service.log_path}")
        print(f"\nTry it in another terminal (Ctrl-C here ends everything):\n\n{example(port)}\n")
        sys.stdout.flush()
        while True:
            watch(service)
            time.sleep(0.2)


def main(
    serve_engine: EngineServer = serve_vllm, service_command: ServiceCommand = secondpass_serve
) -> int:
    """The exit status: 1 for a failure, 128 + the signal's number when a signal ended the demo."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0])
    parser.add_argument("--model", help=f"a folder or a hub name; default: {fetch_model.NAME}")
    parser.add_argument("--port", type=int, default=8000, help="the service's; default: 8000")
    parser.add_argument("--engine-port", type=int, help="vLLM's; default: a free one")
    try:
        run(parser.parse_args(), serve_engine, service_command)
    except (Failed, ServerDidNotStart) as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"ended by {stopped}; nothing is left running", flush=True)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())
