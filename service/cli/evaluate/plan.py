"""Settings that an evaluation compares, checked against the strategies of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secondpass.service.cli.common.failure import REFUSED, Failure, Json
from secondpass.service.cli.common.options import limits
from secondpass.service.cli.common.values import param_schemas
from secondpass.service.cli.evaluate.options import EvalOptions
from secondpass.service.lab.evaluation.answer_log import Setting

EPOCH_SEEDS = 1_000_000
"""Distance between the seeds of two epochs, larger than the number of samples of a run."""


def plan(options: EvalOptions, strategies: Json, models: Json) -> list[Setting]:
    """Return one setting per strategy.

    Args:
        options: Options of the evaluation.
        strategies: Response of GET /strategies.
        models: Response of GET /v1/models. Its first model answers.

    Raises:
        Failure: The server lacks a strategy or a parameter, or has no model.
    """
    known = {s["name"]: param_schemas(s["params"]) for s in strategies["strategies"]}
    names = [entry["id"] for entry in models["data"]]
    plain = [name for name in names if not any(name.startswith(f"{other}@") for other in names)]
    if not plain:
        raise Failure("the server lists no model")
    _check(options, known)
    sampling = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    return [
        Setting(
            strategy=name,
            model=plain[0],
            params=_params(options, name, known[name]),
            sampling={k: v for k, v in sampling.items() if v is not None} | {"seed": options.seed},
            budget=limits(options),
            route=options.route,
        )
        for name in options.strategies
    ]


def sampling_of(setting: Setting, epoch: int) -> Json:
    """Return the sampling parameters of an epoch, counted from 1. Each epoch has separate seeds."""
    seed = setting.sampling["seed"] + (epoch - 1) * EPOCH_SEEDS
    return {**setting.sampling, "seed": seed}


def _check(options: EvalOptions, known: Mapping[str, Mapping[str, Any]]) -> None:
    for name in options.strategies:
        if name not in known:
            raise Failure(
                f"--strategy: the server has no strategy {name!r}; must be one of: {', '.join(known)}",
                REFUSED,
            )
    if len(set(options.strategies)) < len(options.strategies):
        raise Failure(
            "--strategy: a strategy is given twice; run the command once per setting", REFUSED
        )
    if options.n is not None and not any("n" in known[name] for name in options.strategies):
        raise Failure(f"--n: no parameter `n` in {', '.join(options.strategies)}", REFUSED)
    for key, _ in options.param:
        owner, dot, _ = key.partition(".")
        if dot and owner not in options.strategies:
            raise Failure(f"--param {key}: {owner!r} is not a --strategy", REFUSED)


def _params(options: EvalOptions, name: str, known: Mapping[str, Any]) -> Json:
    params: Json = {}
    if "n" in known:
        params["n"] = options.n if options.n is not None else known["n"].get("default")
    set_params = {"n"} if options.n is not None else set()
    for key, value in options.param:
        owner, dot, own = key.partition(".")
        if dot and owner != name:
            continue
        param = own if dot else key
        if param not in known:
            raise Failure(
                f"--param {key}: {name} has no parameter {param!r} (it has {', '.join(known) or 'none'}); "
                "STRATEGY.KEY=VALUE sets a parameter of one strategy",
                REFUSED,
            )
        if param in set_params:
            raise Failure(f"--param {key}: given twice for {name}", REFUSED)
        set_params.add(param)
        params[param] = value
    return params
