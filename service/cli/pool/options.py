"""Options of `secondpass pool` and its actions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from secondpass.service.cli.common.command import Options, add_parser
from secondpass.service.cli.common.options import add_wait
from secondpass.service.cli.common.values import count, key_value, sampling_value
from secondpass.strategies.answers.task import Kind

if TYPE_CHECKING:
    Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name

EPILOG = """\
A pool contains completions of a model: text, tokens, log probabilities, confidences and times.
It is recorded once. Strategies can then run over it without the model, any number of times.

details:
  secondpass pool record --help
  secondpass pool replay --help
"""
_REPLAY = """\
A run takes recorded samples with their lengths and times, in another order per shuffle. No model is
called. A run that needs a call which the pool lacks has no answer and counts as incorrect. The first such
call is printed, and the exit code is 1.

With flags of `secondpass serve` after --, missing calls go to that engine: verdicts, critiques,
revisions, more drafts. It must serve the model of the pool. Each reply is added to the pool as soon as
it is finished, so the same command resumes after an interruption. Without the engine, the command then
replays the same runs. Only the flags of the engine have an effect.

exit codes:
  0    Every run has an answer.
  1    Some runs have no answer, or the engine is not ready.
  2    An option, the pool or the engine is invalid.
  130  Ctrl-C or SIGTERM.

examples:
  secondpass pool replay --pool pool.jsonl --out runs/pool.records.jsonl --shuffles 20 \\
    --setting single --setting "self_consistency n=8" --setting "self_consistency n=8 stop=esc window=4"

  secondpass pool replay --pool pool.jsonl --out runs/refine.records.jsonl --shuffles 4 --setting self_refine -- \\
    --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""
_RECORD = """\
The flags of `secondpass serve` after -- configure the engine. Each sample is written as soon as it is
finished, and the same command resumes after an interruption. A larger --n or more --data extend a pool.
Another model, prompt or sampling is rejected.

A row of --data has `id`, `question` and `answer`. Multiple choice also has `choices`; code has `test`.

exit codes:
  0    Every sample is in the pool.
  1    The engine failed or is not ready. Finished samples are kept.
  2    An option, the data or the pool is invalid. Data errors name file and line.
  130  Ctrl-C or SIGTERM. Finished samples are kept.

examples:
  secondpass pool record --data questions.jsonl --task math --n 16 --out pool.jsonl -- \\
    --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
"""


class PoolOptions(Options):
    """The action, and the seconds within which its engine must become ready."""

    action: str
    wait: float


class RecordOptions(PoolOptions):
    """Questions, sampling and the output pool of a recording."""

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
    """Pool, settings, shuffles and output records of a replay."""

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
    summary = "draw samples of questions from an engine and add them to a pool"
    parser = add_parser(actions, "record", summary, _RECORD)
    add = parser.add_argument
    add(
        "--data",
        action="append",
        required=True,
        metavar="FILE",
        help="questions, one JSON object per line; may be repeated",
    )
    add("--out", required=True, metavar="FILE", help="the pool, created if missing")
    add(
        "--n",
        dest="samples",
        type=count,
        default=16,
        metavar="N",
        help="samples per question, 1 or more (default: %(default)s)",
    )
    add(
        "--limit",
        type=count,
        metavar="N",
        help="use the first N questions of each file (default: all)",
    )
    add(
        "--task",
        choices=get_args(Kind),
        help="kind of the rows without `kind` (default: choice with `choices`, code with `test`)",
    )
    add(
        "--prompt-format",
        choices=("on", "off"),
        default="on",
        help="ask for the answer format of the task, like a request with an explicit task (default: %(default)s)",
    )
    add(
        "--max-tokens",
        type=sampling_value("max_tokens", int),
        default=1024,
        metavar="N",
        help="completion tokens per sample, 1 or more (default: %(default)s)",
    )
    add(
        "--temperature",
        type=sampling_value("temperature", float),
        default=0.7,
        metavar="T",
        help="sampling temperature, 0 to 2 (default: %(default)s)",
    )
    add(
        "--seed",
        dest="first_seed",
        type=sampling_value("seed", int),
        default=0,
        metavar="N",
        help="seed of sample 0, 0 or more; sample i has seed N + i (default: %(default)s)",
    )
    add(
        "--logprobs",
        type=_natural,
        default=20,
        metavar="K",
        help="record log probabilities, and confidences over the K most probable tokens; 0 or more, 0 records no "
        "confidences (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=count,
        default=64,
        metavar="N",
        help="concurrent samples, 1 or more (default: %(default)s)",
    )
    add(
        "--note",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="fact to store in the pool, such as the engine's version; may be repeated",
    )
    add_wait(parser)


def _add_replay(actions: Actions) -> None:
    summary = "run strategies over a pool and write records for `secondpass results`"
    parser = add_parser(actions, "replay", summary, _REPLAY)
    add = parser.add_argument
    add(
        "--pool",
        required=True,
        metavar="FILE",
        help="recorded pool, or answers from another source: rows with `id`, `question` and `samples` [{pred, correct}]",
    )
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="the records; must end in .records.jsonl; overwritten",
    )
    add(
        "--setting",
        dest="settings",
        action="append",
        required=True,
        metavar="'NAME KEY=VALUE ...'",
        help="strategy and its parameters; may be repeated",
    )
    add(
        "--shuffles",
        type=count,
        default=20,
        metavar="K",
        help="sample orders per setting and question, 1 or more (default: %(default)s)",
    )
    add(
        "--only",
        default="",
        metavar="PREFIX",
        help="use the questions whose id begins with PREFIX (default: all)",
    )
    add(
        "--seed",
        dest="run_seed",
        type=sampling_value("seed", int),
        metavar="N",
        help="seed of every run, 0 or more; prompts depend on it (default: the pool's)",
    )
    add(
        "--calibrations",
        metavar="PATH",
        help="calibration file of the pool's model, or a folder of such files (default: none)",
    )
    add(
        "--concurrency",
        dest="runs_at_once",
        type=count,
        metavar="N",
        help="with an engine: concurrent runs, and concurrent calls, 1 or more (default: 64)",
    )
    add_wait(parser)


def _natural(text: str) -> int:
    """Parse a whole number, 0 or more."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, not {text!r}")
    return value
