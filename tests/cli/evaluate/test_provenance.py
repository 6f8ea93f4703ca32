"""The command line in records reproduces the evaluation and contains no folders."""

import shlex
from collections.abc import Sequence

import pytest

from secondpass.service.cli.common.provenance import model_name
from secondpass.service.cli.evaluate.command_line import eval_command
from secondpass.service.cli.evaluate.options import EvalOptions
from secondpass.service.cli.parser import parse

GIVEN = shlex.split(
    "eval --data {0}a.jsonl --data {0}b.jsonl --strategy single --strategy self_consistency --n 4 --task math --limit 9 "
    "--epochs 2 --max-tokens 64 --temperature 0.7 --seed 4 --budget-tokens 900 --budget-calls 8 --deadline 2.5 --route chat"
)
PARAMS = (
    "stop=lead",
    "width=3",
    "abort=true",
    'weight="3"',
    "self_consistency.keep=0.5",
    "text=a b/c",
)


def parsed(arguments: Sequence[str]) -> EvalOptions:
    options = parse(arguments)
    assert isinstance(options, EvalOptions)
    return options


def test_the_command_line_parses_to_the_same_options_without_folders() -> None:
    params = [word for param in PARAMS for word in ("--param", param)]
    machine_options = [
        "--log-dir",
        "/home/me/logs",
        "--records",
        "/home/me/x.records.jsonl",
        "--url",
        "http://host:1",
    ]
    typed = [word.format("/home/me/data/") for word in GIVEN]
    command = eval_command(parsed([*typed, *params, *machine_options]))
    assert not any("/home/me" in word or "host" in word for word in command)
    reparsed = vars(parsed([*command[1:], "--log-dir", "logs"]))
    plain = [word.format("") for word in GIVEN]
    assert reparsed == vars(parsed([*plain, *params, "--log-dir", "logs"]))


def test_defaults_are_left_out() -> None:
    command = eval_command(
        parsed(["eval", "--data", "a", "--strategy", "single", "--log-dir", "l"])
    )
    assert command == ["secondpass", "eval", "--data", "a", "--strategy", "single", "--seed", "0"]


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ("/models/tiny", "tiny"),
        ("./tiny", "tiny"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("tiny", "tiny"),
    ],
)
def test_a_model_path_is_reduced_to_its_last_component(served: str, expected: str) -> None:
    assert model_name(served) == expected
