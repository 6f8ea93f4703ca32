"""The demo behind `make run`: the service with an in-process vLLM engine, and one example request.

The service runs in a separate process group, which ends with this program on every exit path. The log of the service
and its engine is written to a file. The terminal shows one line per step.
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
from tools.local_vllm import START_SECONDS, served_name, vllm_environment, vllm_flags
from tools.processes import STOP_GRACE, Child, ServerDidNotStart, is_free, serving

HOST = "127.0.0.1"
QUESTION = "There are 10 rows of 10 chairs. What is 10 * 10, the number of chairs?"

ServiceCommand = Callable[[str, int], Sequence[str]]
"""Return the command that serves a model, from (model, port)."""


class Failed(RuntimeError):
    """The demo cannot continue. The message is printed to the terminal."""


class Stopped(BaseException):
    """A signal requested termination. Not an Exception, so that handlers of failures do not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Steps:
    """Prints one line per step, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print `text` with the elapsed time."""
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)


class Signals:
    """Records the first SIGINT, SIGTERM or SIGHUP; `check` raises it at a safe point."""

    def __init__(self) -> None:
        self._number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number

    def check(self) -> None:
        """Raise Stopped if a signal was received."""
        if self._number is not None:
            raise Stopped(self._number)


def secondpass_serve(model: str, port: int) -> list[str]:
    """Return the command that serves `model` with vLLM in the process of the service."""
    return [
        *(sys.executable, "-m", "secondpass.service", "serve"),
        *("--engine", "vllm", "--model", model, "--host", HOST, "--port", str(port)),
        *("--shutdown-grace-seconds", "5"),
        *("--", *vllm_flags(served_name(model))),
    ]


def example(port: int) -> str:
    """Return a curl command for a POSIX shell that sends the example request."""
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
        raise Failed(
            f"port {port} is in use: stop the process that listens on it, or set PORT to a free port"
        )


def get_model(step: Steps, signals: Signals) -> Path:
    """Return the folder of the demo model. A missing model is fetched in an interruptible child process."""
    folder = fetch_model.model_folder()
    if folder.is_dir():
        return folder
    step(f"fetching the model {fetch_model.NAME}")
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
        raise Failed(f"the model could not be fetched; end of {child.log_path}:\n{child.tail()}")
    return folder


def require_alive(child: Child) -> None:
    """Raise Failed if `child` has exited."""
    if (status := child.exit_status()) is not None:
        raise Failed(
            f"{child.name} exited with status {status}; end of {child.log_path}:\n{child.tail()}"
        )


def run(options: argparse.Namespace, service_command: ServiceCommand, grace: float) -> NoReturn:
    """Start the service and monitor it until a signal arrives.

    On exit, the service is killed if it has not stopped after `grace` seconds.

    Raises:
        Stopped: A signal arrived.
        Failed: The port is in use, the model is missing or the service exited.
        ServerDidNotStart: The service did not become ready.
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
        step(f"secondpass is ready at http://{HOST}:{port}; log file: {service.log_path}")
        print(f"\nTry it in another terminal (Ctrl-C here stops everything):\n\n{example(port)}\n")
        sys.stdout.flush()
        while True:
            signals.check()
            require_alive(service)
            time.sleep(0.2)


def main(service_command: ServiceCommand = secondpass_serve, grace: float = STOP_GRACE) -> int:
    """Run the demo.

    Args:
        service_command: Returns the command that serves the model.
        grace: Seconds that the service has to stop before it is killed.

    Returns:
        The exit status: 1 for a failure, 128 plus the signal number after a signal.
    """
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", help=f"folder or hub name of a model; default: {fetch_model.NAME}"
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the service; default: 8000")
    try:
        run(parser.parse_args(), service_command, grace)
    except (Failed, ServerDidNotStart) as failure:
        print(f"make run: {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"stopped by {stopped}; no process is left running", flush=True)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())
