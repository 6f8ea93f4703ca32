"""The options of `secondpass eval`."""

from __future__ import annotations

import argparse
from typing import get_args

from secondpass.service.cli.common.options import (
    EmbeddedOptions,
    LimitOptions,
    add_embedded,
    add_server,
)
from secondpass.service.cli.common.values import count, number, param
from secondpass.strategies.answers.task import Kind

EPILOG = """\
Every strategy answers every question of --data, by a running server or (--embedded) by one of this command's own. A
row of --data has id, question and answer; choices, of a multiple choice; test (and entry_point), of code. Answers are
scored by mathematical equivalence, by letter, or by the tests, which run in a sandbox of bubblewrap.

Every answer is in --log-dir as soon as it is there: the same command goes on where an earlier one was ended, however
that happened, and asks nothing twice. `inspect view --log-dir DIR` shows the logs.

exit codes:
  0    every question has its answer, right or wrong
  1    the server or its engine failed on some; the same command asks those again
  2    the options or the data are wrong (told by file and line), or the server refused a request
  130  Ctrl-C, or SIGTERM

examples:
  secondpass eval --data questions.jsonl --task math --strategy single --strategy self_consistency --n 8 \\
    --log-dir logs
  secondpass eval --data questions.jsonl --strategy self_consistency --param stop=lead --log-dir logs \\
    --embedded -- --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""


class EvalOptions(EmbeddedOptions, LimitOptions):
    """Questions and strategies, and how each answer is drawn, limited and kept."""

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
    add("--data", action="append", required=True, metavar="FILE", help="questions; may be repeated")
    add("--log-dir", required=True, metavar="DIR", help="answers and logs, new or begun")
    add(
        "--strategy",
        dest="strategies",
        action="append",
        required=True,
        metavar="NAME",
        help="see `secondpass strategies`; may be repeated",
    )
    add("--n", type=count, help="n of every strategy that has one")
    add(
        "--param",
        action="append",
        default=[],
        type=param,
        metavar="[STRATEGY.]KEY=VALUE",
        help="a parameter of that strategy, or of each one named; may be repeated",
    )
    add("--task", choices=get_args(Kind), help="kind of the rows that do not tell theirs")
    add("--limit", type=count, metavar="N", help="only the first N questions of each file")
    add(
        "--epochs",
        type=count,
        default=1,
        metavar="N",
        help="how often each is asked, with seeds of its own (default: %(default)s)",
    )
    add("--max-tokens", type=count, metavar="N", help="completion tokens of one call")
    add("--temperature", type=number, metavar="T", help="of the answer's own call")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="where seeds begin (default: %(default)s)",
    )
    add("--budget-tokens", type=count, metavar="N", help="completion tokens of one answer, at most")
    add("--budget-calls", type=count, metavar="N", help="engine requests of one answer, at most")
    add("--deadline", type=number, metavar="SECONDS", help="time of one answer, at most")
    add("--concurrency", type=count, default=8, metavar="N", help="at once (default: %(default)s)")
    add(
        "--route",
        choices=("solve", "chat"),
        default="solve",
        help="ask at /solve or at /v1/chat/completions (default: %(default)s)",
    )
    add("--records", metavar="FILE", help="write every attempt, for `secondpass results`")
    add_embedded(parser)
