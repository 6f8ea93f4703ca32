"""What the commands take. The options of `serve` are the settings themselves and stand there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from secondpass import __version__
from secondpass.service.cli.calibrate_options import CALIBRATE, Also, add_calibrate
from secondpass.service.cli.eval_options import EVAL, add_eval
from secondpass.service.cli.pool_options import POOL, add_pool
from secondpass.service.cli.results_options import RESULTS, add_results
from secondpass.service.cli.values import number, param, seconds

DEFAULT_URL = "http://127.0.0.1:8000"
WAIT_SECONDS = 300.0
SHELLS = ("bash", "zsh", "fish")

_SUMMARY = "Makes a language model check and correct its own work, within a budget."
_COMMANDS = """\
examples:
  secondpass serve --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
  secondpass solve "What is 6 times 7?" --strategy self_consistency --n 8
  secondpass strategies
"""
_SOLVE = """\
On a terminal the calls, candidates and the budget are drawn while the run goes on. In a pipe there is the answer
alone: what was extracted from the text, or the text where nothing is extracted.

exit codes:
  0    answered
  1    the server or its engine failed, or cannot be reached
  2    the options are wrong, or the server refused the request
  3    nothing to show within the budget or the deadline, or only a text that was cut before it held an answer
  130  Ctrl-C, or SIGTERM: the connection is closed, so the server ends the run and frees its engine

examples:
  secondpass solve "What is 6 times 7?"
  secondpass solve "What is 6 times 7?" --strategy self_consistency --n 16 --param stop=lead
  secondpass solve "Which is prime?" --task choice --option 21 --option 23 --option 27
  secondpass solve - --budget-tokens 2000 --deadline 20 < question.txt
  secondpass solve "What is 6 times 7?" --json --trace | jq .candidates
  secondpass solve "What is 6 times 7?" --embedded -- --engine scripted --model scripted
"""
_LISTS = """\
examples:
  secondpass {name}
  secondpass {name} --url https://solve.example --api-key-env KEY --json | jq .
"""
_COMPLETION = """\
examples:
  source <(secondpass completion bash)
  secondpass completion zsh > ~/.zfunc/_secondpass
  secondpass completion fish > ~/.config/fish/completions/secondpass.fish
"""


class Options(argparse.Namespace):
    """The options of whichever command was named; those of another one are not there."""

    command: str
    url: str
    api_key_env: str | None
    json: bool
    shell: str
    question: str
    strategy: str | None
    n: int | None
    param: list[tuple[str, object]]
    task: str | None
    option: list[str]
    model: str | None
    budget_tokens: int | None
    budget_calls: int | None
    deadline: float | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    trace: bool
    embedded: bool
    wait: float
    action: str
    data: list[str]
    out: str
    limit: int | None
    prompt_format: str
    logprobs: int
    samples: int
    first_seed: int
    also: list[Also]
    concurrency: int
    note: list[tuple[str, str]]
    pools: list[str]
    pool: str
    settings: list[str]
    shuffles: int
    run_seed: int | None
    runs_at_once: int | None
    calibrations: str | None
    only: str
    log_dir: str
    strategies: list[str]
    epochs: int
    route: str
    records: str | None
    readme: str | None
    engine_url: str | None
    engine_key_env: str | None
    serve_flags: list[str]


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and that of each command; the one of `serve` is empty here."""
    parser = _Parser(
        prog="secondpass",
        description=_SUMMARY,
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"secondpass {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, says: str, epilog: str | None = None) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=says,
            description=says[0].upper() + says[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    command("serve", "answer questions over HTTP")
    solve = command("solve", "answer one question by a running server", _SOLVE)
    _add_server(solve)
    _add_question(solve)
    _add_limits(solve)
    _add_output(solve)
    _add_embedded(solve)
    for name, what in (("strategies", "strategies"), ("models", "models")):
        listing = command(name, f"list the {what} of a running server", _LISTS.format(name=name))
        _add_server(listing)
        listing.add_argument("--json", action="store_true", help="the server's reply on one line")
    pool = command("pool", "record what a model writes, to replay it later", POOL)
    add_pool(pool.add_subparsers(dest="action", metavar="ACTION", required=True))
    add_calibrate(command("calibrate", "find out how far a model can judge itself", CALIBRATE))
    evaluation = command("eval", "find out how often strategies are right, and at what cost", EVAL)
    _add_server(evaluation)
    add_eval(evaluation)
    _add_embedded(evaluation)
    add_results(command("results", "write what was measured into documents", RESULTS))
    completion = command("completion", "print a completion script for a shell", _COMPLETION)
    completion.add_argument("shell", choices=SHELLS)
    return parser, commands.choices


def parse(arguments: Sequence[str]) -> Options:
    """The options. What follows `--` after --embedded or of `pool` and `calibrate` are flags of `serve`. Raises SystemExit as argparse does."""
    given, flags = list(arguments), []
    at = given.index("--") if "--" in given else len(given)
    if "--embedded" in given[:at] or given[:1] in (["pool"], ["calibrate"]):
        given, flags = given[:at], given[at + 1 :]
    parser, commands = build_parser()
    if not given:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if not given[0].startswith("-") and given[0] not in commands:
        parser.error(f"there is no command {given[0]!r}; there are: {', '.join(commands)}")
    options = parser.parse_args(given, Options(serve_flags=flags))
    _choose_server(commands[options.command], options)
    return options


def _choose_server(parser: argparse.ArgumentParser, options: Options) -> None:
    """Refuse what is said of a server that is not asked, and fill in what is not said."""
    given = vars(options)
    if "embedded" in given:
        if options.embedded and given["url"] is not None:
            parser.error("--url names a server, and --embedded answers without one")
        if not options.embedded and given["wait"] is not None:
            parser.error("--wait needs --embedded")
        options.wait = WAIT_SECONDS if given["wait"] is None else given["wait"]
    if "url" in given:
        options.url = given["url"] or DEFAULT_URL


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=f"the server (default: {DEFAULT_URL})")
    parser.add_argument(
        "--api-key-env", metavar="VAR", help="name of the variable that holds the server's key"
    )


def _add_question(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("question", help="the question; - reads it from stdin")
    add("--strategy", metavar="NAME", help="see `secondpass strategies`; the server has a default")
    add("--n", type=int, help="the strategy's n: candidates at most")
    add(
        "--param",
        action="append",
        default=[],
        type=param,
        metavar="KEY=VALUE",
        help="any other parameter of the strategy; may be repeated",
    )
    add(
        "--task",
        choices=("math", "choice", "code", "open"),
        help="how answers are compared; else guessed",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="TEXT",
        help="an option of --task choice; may be repeated",
    )
    add("--model", metavar="NAME", help="the actor's model; see `secondpass models`")
    add("--max-tokens", type=int, metavar="N", help="completion tokens of one call")
    add("--temperature", type=number, metavar="T", help="of the answer's own call")
    add("--seed", type=int, metavar="N", help="where the strategy's seeds begin")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--budget-tokens", type=int, metavar="N", help="completion tokens of all calls, at most")
    add("--budget-calls", type=int, metavar="N", help="engine requests, at most")
    add("--deadline", type=number, metavar="SECONDS", help="time of the whole run, at most")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="the whole answer object on one line")
    add(
        "--trace",
        action="store_true",
        help="with what every call wrote: in the drawn tree, in --json, or else on stderr",
    )


def _add_embedded(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--embedded",
        action="store_true",
        help="answer without a server: the flags of `secondpass serve` follow after --",
    )
    add(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="--embedded: how long its engines may take to get ready, once a vllm one has loaded its model "
        f"(default: {WAIT_SECONDS:g})",
    )
