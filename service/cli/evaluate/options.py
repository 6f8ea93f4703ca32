"""Options of `secondpass eval`."""

from __future__ import annotations

import argparse
from typing import get_args

from secondpass.service.cli.common.options import (
    EmbeddedOptions,
    LimitOptions,
    add_embedded,
    add_server,
)
from secondpass.service.cli.common.values import count, number, param, sampling_value
from secondpass.strategies.answers.task import Kind

EPILOG = """\
Asks a server every question with every strategy, scores the answers, and prints a table with accuracy,
tokens and wall time. The server is the one at --url, or with --embedded one in this process.

A row of --data has `id`, `question` and `answer`. Multiple choice also has `choices`; code has `test` and
optionally `entry_point`. Answers are scored by mathematical equivalence, by letter, or by the tests,
which run in a bubblewrap sandbox.

Each answer is written to --log-dir as soon as it arrives. After any interruption the same command
resumes and asks nothing twice. `inspect view --log-dir DIR` shows the logs.

Needs the `eval` extra: pip install 'secondpass[eval]'

exit codes:
  0    Every question has an answer, correct or incorrect.
  1    The server or its engine failed on some questions. The same command asks them again.
  2    An option or the data is invalid, or the server rejected a request. Data errors name file and line.
  130  Ctrl-C or SIGTERM.

examples:
  secondpass eval --data questions.jsonl --task math --strategy single --strategy self_consistency --n 8 \\
    --log-dir logs

  secondpass eval --data questions.jsonl --strategy self_consistency --param stop=lead --log-dir logs \\
    --embedded -- --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""


class EvalOptions(EmbeddedOptions, LimitOptions):
    """Questions, strategies, sampling, limits and output files."""

    data: list[str]
    log_dir: str
    strategies: list[str]
    n: int | None
    param: list[tuple[str, object]]
    task: str | None
    limit: int | None
    epochs: int
    max_tokens: int | None
    temperature: float | None
    seed: int
    concurrency: int
    route: str
    records: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_server(parser)
    add = parser.add_argument
    add(
        "--data",
        action="append",
        required=True,
        metavar="FILE",
        help="questions, one JSON object per line; may be repeated",
    )
    add(
        "--log-dir",
        required=True,
        metavar="DIR",
        help="folder of answers and logs, created if missing",
    )
    add(
        "--strategy",
        dest="strategies",
        action="append",
        required=True,
        metavar="NAME",
        help="strategy, see `secondpass strategies`; may be repeated",
    )
    add(
        "--n",
        type=count,
        metavar="N",
        help="parameter `n` of every strategy that has one, 1 or more (default: the strategy's)",
    )
    add(
        "--param",
        action="append",
        default=[],
        type=param,
        metavar="[STRATEGY.]KEY=VALUE",
        help="parameter of all strategies (KEY) or of one (STRATEGY.KEY); VALUE is parsed as JSON, otherwise taken as a string; may be repeated",
    )
    add(
        "--task",
        choices=get_args(Kind),
        help="kind of the rows without `kind` (default: choice with `choices`, code with `test`)",
    )
    add(
        "--limit",
        type=count,
        metavar="N",
        help="use the first N questions of each file (default: all)",
    )
    add(
        "--epochs",
        type=count,
        default=1,
        metavar="N",
        help="how often each question is asked, each time with other seeds (default: %(default)s)",
    )
    _add_run_options(parser)
    add(
        "--concurrency",
        type=count,
        default=8,
        metavar="N",
        help="concurrent requests, 1 or more (default: %(default)s)",
    )
    add(
        "--route",
        choices=("solve", "chat"),
        default="solve",
        help="use /solve or /v1/chat/completions (default: %(default)s)",
    )
    add(
        "--records",
        metavar="FILE",
        help="also write a record of every run for `secondpass results`; must end in .records.jsonl",
    )
    add_embedded(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare sampling and budget of each run."""
    add = parser.add_argument
    add(
        "--max-tokens",
        type=count,
        metavar="N",
        help="completion tokens per call, 1 or more (default: the server's)",
    )
    add(
        "--temperature",
        type=sampling_value("temperature", float),
        metavar="T",
        help="sampling temperature, 0 to 2, of a strategy without a parameter `temperature` (default: the server's)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="first seed, 0 or more (default: %(default)s)",
    )
    add(
        "--budget-tokens",
        type=count,
        metavar="N",
        help="completion tokens per answer, 1 or more (default: the server's)",
    )
    add(
        "--budget-calls",
        type=count,
        metavar="N",
        help="engine calls per answer, 1 or more (default: the server's)",
    )
    add(
        "--deadline",
        type=number,
        metavar="SECONDS",
        help="wall time per answer, above 0 (default: the server's)",
    )
