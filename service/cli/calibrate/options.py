"""The options of `secondpass calibrate`."""

from __future__ import annotations

import argparse
from typing import Literal, TypeAlias, get_args

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.options import add_wait
from secondpass.service.cli.common.values import count, number
from secondpass.strategies.judging.written_grades import Written

Also: TypeAlias = Literal["steps"] | Written
"""What may be measured besides reads of whole solutions."""

ALSO: tuple[Also, ...] = ("steps", *get_args(Written))

EPILOG = """\
The model writes drafts of questions whose answers are known, and is asked of each draft whether it is right: by label
probabilities, the labels in both orders. What is written to --out says how well it told right from wrong (AUROC), how
much of its probability the labels had, and the temperature that makes its probabilities true. A server that is given
the file (--calibrations) weighs votes by it.

Strategies that grade drafts in another way need that way measured too, on the same drafts: --also steps (each step is
graded as it is written), --also first_error (the judge names the first wrong step), --also verdict (it writes whether
the draft is right). What was not measured weighs no vote.

A row of --data has id, question and answer; choices, of a multiple choice.

exit codes:
  0    the file is written
  1    the engine failed, is not ready or gives no label probabilities; or all drafts were right, or all wrong
  2    the options or the data are wrong; told by file and line
  130  Ctrl-C, or SIGTERM: nothing is written

examples:
  secondpass calibrate --engine-url http://127.0.0.1:9000/v1 --model NAME \\
    --data questions.jsonl --task math --out NAME.calibration.json
  secondpass calibrate --data questions.jsonl --out NAME.calibration.json -- --config settings.toml
"""


class CalibrateOptions(Options):
    """Questions, how drafts of them are drawn and graded, and the file that is written; `wait` is in seconds."""

    engine_url: str | None
    engine_key_env: str | None
    model: str | None
    data: list[str]
    out: str
    limit: int | None
    also: list[Also]
    task: str | None
    samples: int
    max_tokens: int
    temperature: float
    first_seed: int
    concurrency: int
    wait: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--engine-url",
        metavar="URL",
        help="the engine's address, up to its /v1; or serve's flags after --",
    )
    add("--model", metavar="NAME", help="the model that it serves")
    add("--engine-key-env", metavar="VAR", help="name of the variable that holds the engine's key")
    add("--data", action="append", required=True, metavar="FILE", help="questions; may be repeated")
    add("--out", required=True, metavar="FILE", help="the calibration file")
    add("--limit", type=count, metavar="N", help="only the first N questions of each file")
    add(
        "--also",
        action="append",
        default=[],
        choices=ALSO,
        help="grades measured besides reads of whole drafts; may be repeated",
    )
    add("--task", choices=("math", "choice"), help="kind of the rows that do not tell theirs")
    add(
        "--n",
        dest="samples",
        type=count,
        default=4,
        metavar="N",
        help="drafts of each question (default: %(default)s)",
    )
    add(
        "--max-tokens",
        type=count,
        default=1024,
        metavar="N",
        help="of one draft (default: %(default)s)",
    )
    add(
        "--temperature",
        type=number,
        default=0.7,
        metavar="T",
        help="of the drafts (default: %(default)s)",
    )
    add(
        "--seed",
        dest="first_seed",
        type=int,
        default=0,
        metavar="N",
        help="of draft 0 (default: %(default)s)",
    )
    add("--concurrency", type=count, default=16, help="questions at once (default: %(default)s)")
    add_wait(parser)
