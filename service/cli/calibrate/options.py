"""Options of `secondpass calibrate`."""

from __future__ import annotations

import argparse
from typing import Literal, TypeAlias, get_args

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.options import add_wait
from secondpass.service.cli.common.values import count, sampling_value
from secondpass.strategies.judging.written_grades import WrittenKind

ExtraGrade: TypeAlias = Literal["steps"] | WrittenKind
"""Grades that can be measured in addition to grades of whole solutions."""

EXTRA_GRADES: tuple[ExtraGrade, ...] = ("steps", *get_args(WrittenKind))

EPILOG = """\
The model generates drafts of questions with known answers. It then grades each draft: the probability
of the label for "right", with the labels in both orders. --out contains:

  * the AUROC of these grades, which measures how well they separate correct from incorrect drafts
  * the probability mass of the labels
  * the temperature that calibrates the grades

A server with this file in --calibrations weights votes by the grades. Needs an engine with label probabilities.

Other kinds of grades are measured on the same drafts:

  --also steps        Each step is graded during generation.
  --also first_error  The judge names the first wrong step.
  --also verdict      The judge writes whether the draft is correct.

Grades of a kind that was not measured do not weight votes.

A row of --data has `id`, `question` and `answer`. Multiple choice also has `choices`.

exit codes:
  0    The file is written.
  1    The engine failed, is not ready or lacks label probabilities; or all drafts were correct, or all incorrect.
  2    An option or the data is invalid. Data errors name file and line.
  130  Ctrl-C or SIGTERM. Nothing is written.

examples:
  secondpass calibrate --engine-url http://127.0.0.1:9000/v1 --model NAME \\
    --data questions.jsonl --task math --out NAME.calibration.json

  secondpass calibrate --data questions.jsonl --out NAME.calibration.json -- --config settings.toml
"""


class CalibrateOptions(Options):
    """Engine, questions, sampling and output file. `wait` is in seconds."""

    engine_url: str | None
    engine_key_env: str | None
    model: str | None
    data: list[str]
    out: str
    limit: int | None
    also: list[ExtraGrade]
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
        help="address of the engine, ending in /v1; alternative: flags of serve after --",
    )
    add("--model", metavar="NAME", help="model that the engine serves")
    add(
        "--engine-key-env",
        metavar="VAR",
        help="environment variable that contains the engine's API key (default: no key)",
    )
    add(
        "--data",
        action="append",
        required=True,
        metavar="FILE",
        help="questions, one JSON object per line; may be repeated",
    )
    add("--out", required=True, metavar="FILE", help="calibration file to write")
    add(
        "--limit",
        type=count,
        metavar="N",
        help="use the first N questions of each file (default: all)",
    )
    add(
        "--also",
        action="append",
        default=[],
        choices=EXTRA_GRADES,
        help="additional kind of grades to measure; may be repeated",
    )
    add(
        "--task",
        choices=("math", "choice"),
        help="kind of the rows without `kind` (default: choice with `choices`)",
    )
    add(
        "--n",
        dest="samples",
        type=count,
        default=4,
        metavar="N",
        help="drafts per question, 1 or more (default: %(default)s)",
    )
    add(
        "--max-tokens",
        type=count,
        default=1024,
        metavar="N",
        help="completion tokens per draft, 1 or more (default: %(default)s)",
    )
    add(
        "--temperature",
        type=sampling_value("temperature", float),
        default=0.7,
        metavar="T",
        help="sampling temperature of the drafts, 0 to 2; 0 needs --n 1 (default: %(default)s)",
    )
    add(
        "--seed",
        dest="first_seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of draft 0, 0 or more (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=count,
        default=16,
        metavar="N",
        help="concurrent questions, 1 or more (default: %(default)s)",
    )
    add_wait(parser)
