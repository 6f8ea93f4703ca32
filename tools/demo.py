"""What `make run` starts: the service with vLLM inside of it, and one question to try.

It runs in a process group of its own; whichever way this program ends, all of that ends with it. Its log, and that of
the engine in it, goes to a file, so that the terminal shows one line a step.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tools import fetch_model
from tools.cache import log_folder
from tools.local_vllm import START_SECONDS, name_of, vllm_environment, vllm_flags
from tools.processes import STOP_GRACE, Child, ServerDidNotStart, is_free, serving

HOST = "127.0.0.1"
QUESTION = "There are 10 rows of 10 chairs. What is 10 * 10, the number of chairs?"

ServiceCommand = Callable[[str, int], Sequence[str]]
"""(model, port) -> the command that serves it"""


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


def secondpass_serve(model: str, port: int) -> list[str]:
    """The command that serves `model` by secondpass, with vLLM in the same process."""
    return [
        *(sys.executable, "-m", "secondpass.service", "serve"),
        *("--engine", "vllm", "--model", model, "--host", HOST, "--port", str(port)),
        *("--shutdown-grace-seconds", "5"),  # who presses Ctrl-C wants the prompt back
        *("--", *vllm_flags(name_of(model))),
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


def require_free(port: int) -> None:
    """Raise Failed if something listens on `port`."""
    if not is_free(port):
        raise Failed(f"port {port} is in use; end what listens there, or set PORT to another")


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


def require_alive(child: Child) -> None:
    """Raise Failed if it has ended."""
    if (status := child.exit_status()) is not None:
        raise Failed(f"{child.name} ended ({status}); end of {child.log_path}:\n{child.tail()}")


def run(options: argparse.Namespace, service_command: ServiceCommand, grace: float) -> NoReturn:
    """Start the service and watch it until a signal comes (Stopped) or it fails.

    It is killed when it has not stopped after `grace` seconds. Raises Failed or ServerDidNotStart where it cannot start or dies.
    """
    step, signals = Steps(), Signals()
    port: int = options.port
    require_free(port)
    model = options.model or str(get_model(step, signals))
    step(f"starting secondpass and vLLM with {model} (about a minute without a GPU)")
    with serving(
        "secondpass",
        service_command(model, port),
        f"http://{HOST}:{port}/readyz",
        log_folder() / f"secondpass-{port}.log",
        timeout=START_SECONDS,
        env=vllm_environment(model),
        interrupt=signals.check,
        grace=grace,
    ) as service:
        step(f"secondpass answers at http://{HOST}:{port}; its log: {service.log_path}")
        print(f"\nTry it in another terminal (Ctrl-C here ends everything):\n\n{example(port)}\n")
        sys.stdout.flush()
        while True:
            signals.check()
            require_alive(service)
            time.sleep(0.2)


def main(service_command: ServiceCommand = secondpass_serve, grace: float = STOP_GRACE) -> int:
    """The exit status: 1 for a failure, 128 + the signal's number when a signal ended the demo.

    `grace` is how many seconds the service has to stop before it is killed.
    """
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0])
    parser.add_argument("--model", help=f"a folder or a hub name; default: {fetch_model.NAME}")
    parser.add_argument("--port", type=int, default=8000, help="the service's; default: 8000")
    try:
        run(parser.parse_args(), service_command, grace)
    except (Failed, ServerDidNotStart) as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"ended by {stopped}; nothing is left running", flush=True)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())
