"""The options of `secondpass pool` and of its actions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from secondpass.service.cli.common.command import Options, add_parser
from secondpass.service.cli.common.options import add_wait
from secondpass.service.cli.common.values import count, key_value
from secondpass.strategies.answers.task import Kind
from secondpass.strategies.api.values import Sampling

if TYPE_CHECKING:
    Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no other name

EPILOG = """\
A pool holds what a model wrote: text, tokens, log probabilities, confidences and times. It is drawn once, and any
strategy can be run over it afterwards, without a model and as often as one likes.

  secondpass pool record --help
  secondpass pool replay --help
"""
_REPLAY = """\
A run gets the samples that were recorded, with the lengths and the times that they had, in another order for each
shuffle. Nothing is asked of a model. A call that the pool does not hold ends its run, which counts as wrong and is
told at the end (exit code 1).

With the flags of `secondpass serve` after -- that engine, which must serve the pool's model, is asked for what the
pool does not hold: verdicts, critiques, revisions, more drafts. They go into the pool as they are finished, so the
same command goes on where an earlier one was ended; and without an engine it replays all of it. Of the flags only
the engine's count.

exit codes:
  0    every run has an answer
  1    runs without an answer; or the engine is not ready
  2    the options, the pool or the engine are wrong
  130  Ctrl-C, or SIGTERM

examples:
  secondpass pool replay --pool pool.jsonl --out runs/pool.records.jsonl --shuffles 20 \\
    --setting single --setting "self_consistency n=8" --setting "self_consistency n=8 stop=esc window=4"
  secondpass pool replay --pool pool.jsonl --out runs/refine.records.jsonl --shuffles 4 --setting self_refine -- \\
    --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""
_RECORD = """\
The flags of `secondpass serve` after -- say which engine writes. Each sample is in the file as soon as it is
finished. The same command goes on where an earlier one was ended, however that happened; a larger --n or more
--data add to a pool. Another model, prompt or sampling is refused.

A row of --data has id, question and answer; choices, of a multiple choice; test, of code.

exit codes:
  0    every sample is there
  1    the engine failed, or is not ready
  2    the options, the data or the pool are wrong; told by file and line
  130  Ctrl-C, or SIGTERM

example:
  secondpass pool record --data questions.jsonl --task math --n 16 --out pool.jsonl -- \\
    --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""


class PoolOptions(Options):
    """Which action, and in seconds how long its engine may take to be ready."""

    action: str
    wait: float


class RecordOptions(PoolOptions):
    """Questions, how samples of them are drawn, and the pool that they go into."""

    data: list[str]
    out: str
    samples: int
    limit: int | None
    task: str | None
    prompt_format: str
    max_tokens: int
    temperature: float
    first_seed: int
    logprobs: int
    concurrency: int
    note: list[tuple[str, str]]


class ReplayOptions(PoolOptions):
    """A pool, the settings that are run over it, and the records that come of it."""

    pool: str
    out: str
    settings: list[str]
    shuffles: int
    only: str
    run_seed: int | None
    calibrations: str | None
    runs_at_once: int | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_replay(actions)
    _add_record(actions)


def _add_record(actions: Actions) -> None:
    summary = "draw samples of questions from an engine, into a pool"
    parser = add_parser(actions, "record", summary, _RECORD)
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="FILE", help="questions; may be repeated")
    add("--out", required=True, metavar="FILE", help="the pool, new or begun")
    add(
        "--n",
        dest="samples",
        type=count,
        default=16,
        metavar="N",
        help="samples of each question (default: %(default)s)",
    )
    add("--limit", type=count, metavar="N", help="only the first N questions of each file")
    add("--task", choices=get_args(Kind), help="kind of the rows that do not tell theirs")
    add(
        "--prompt-format",
        choices=("on", "off"),
        default="on",
        help="ask for the task's answer format, as an explicit task does (default: %(default)s)",
    )
    add("--max-tokens", type=_sampled("max_tokens", int), default=1024, metavar="N")
    add("--temperature", type=_sampled("temperature", float), default=0.7, metavar="T")
    add(
        "--seed",
        dest="first_seed",
        type=_sampled("seed", int),
        default=0,
        metavar="N",
        help="of sample 0",
    )
    add(
        "--logprobs",
        type=_natural,
        default=20,
        metavar="K",
        help="alternatives that a token's confidence is taken over (default: %(default)s)",
    )
    add("--concurrency", type=count, default=64, help="samples at once (default: %(default)s)")
    add(
        "--note",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="what the pool shall say of this recording; may be repeated",
    )
    add_wait(parser)


def _add_replay(actions: Actions) -> None:
    summary = "run strategies over a pool, and keep the attempts for `secondpass results`"
    parser = add_parser(actions, "replay", summary, _REPLAY)
    add = parser.add_argument
    add(
        "--pool",
        required=True,
        metavar="FILE",
        help="a recorded pool, or rows with id, question and samples: [{pred, correct}]",
    )
    add("--out", required=True, metavar="FILE", help="the records, *.records.jsonl; written anew")
    add(
        "--setting",
        dest="settings",
        action="append",
        required=True,
        metavar="'NAME KEY=VALUE ...'",
        help="a strategy and its params; may be repeated",
    )
    add("--shuffles", type=count, default=20, metavar="K", help="(default: %(default)s)")
    add("--only", default="", metavar="PREFIX", help="only questions whose id begins so")
    add(
        "--seed",
        dest="run_seed",
        type=_sampled("seed", int),
        metavar="N",
        help="of every run; prompts depend on it (default: the pool's)",
    )
    add(
        "--calibrations",
        metavar="PATH",
        help="a file of `secondpass calibrate`, or their folder, as the setting (default: none)",
    )
    add(
        "--concurrency",
        dest="runs_at_once",
        type=count,
        metavar="N",
        help="with an engine: runs at once, and calls (default: 64)",
    )
    add_wait(parser)


def _natural(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, not {text!r}")
    return value


def _sampled(field: str, number: Callable[[str], float]) -> Callable[[str], float]:
    """A value of `field` in its own range."""

    def value(text: str) -> float:
        try:
            given = number(text)
            Sampling.model_validate({field: given})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise argparse.ArgumentTypeError(f"{problem}, not {text!r}") from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from error
        return given

    return value
