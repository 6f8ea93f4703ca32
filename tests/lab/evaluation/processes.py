"""`secondpass serve` and `secondpass eval` as processes, over a scripted engine."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from secondpass.service.config.sources import PREFIX
from tests.cli.running import COMMAND, ROOT, surroundings

READY = re.compile(r"listening on (http://\S+)")
_SOLVES = re.compile(r'^secondpass_solves_total\{.*?stop_reason="(\w+)".*?\} (\S+)$', re.MULTILINE)


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@contextmanager
def serving(folder: Path, *flags: str, first_token: float = 0.0) -> Iterator[str]:
    """Run a server and yield its URL; `first_token` is its engine's latency in seconds."""
    config = folder / "serve.toml"
    config.write_text(f'[engines.fake]\nkind = "scripted"\nfirst_token = {first_token}\n')
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    with subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config), "--port", "0", *flags],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stderr
            found = next(filter(None, map(READY.search, popen.stderr)))
            threading.Thread(target=popen.stderr.read, daemon=True).start()
            yield found.group(1)
        finally:
            popen.kill()


def solves(url: str) -> dict[str, int]:
    """Return the server's count of runs by stop reason."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    counts: dict[str, int] = {}
    for reason, count in _SOLVES.findall(text):
        counts[reason] = counts.get(reason, 0) + int(float(count))
    return counts


def solves_in_flight(url: str) -> int:
    """Return the number of runs in flight."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return next(
        int(float(line.split()[-1]))
        for line in text.splitlines()
        if line.startswith("secondpass_runs_in_flight ")
    )


def evaluating(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start an evaluation without network access, with inspect_ai's own files beside the log folder."""
    home = Path(arguments[arguments.index("--log-dir") + 1]).parent
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    return subprocess.Popen(
        [*COMMAND, "eval", *map(str, arguments)],
        cwd=ROOT,
        env=surroundings(HOME=str(home), XDG_DATA_HOME=str(home / "data"), **proxies),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluated(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run an evaluation and wait for it."""
    with evaluating(*arguments) as popen:
        out, err = popen.communicate(timeout=120)
    return subprocess.CompletedProcess(sys.argv, popen.returncode, out, err)
