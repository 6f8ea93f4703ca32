"""From the options of `eval` to the settings it compares; what the server does not have is said before it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secondpass.service.cli.common.failure import REFUSED, Failure, Json
from secondpass.service.cli.common.options import limits
from secondpass.service.cli.common.values import fields_of
from secondpass.service.cli.evaluate.options import EvalOptions
from secondpass.service.lab.evaluation.answer_log import Setting

EPOCH_SEEDS = 1_000_000
"""Between the seeds of two epochs: more than a strategy draws samples."""


def plan(options: EvalOptions, strategies: Json, models: Json) -> list[Setting]:
    """A setting for each strategy. `strategies` and `models` are the server's lists of them. Raises Failure."""
    has = {s["name"]: fields_of(s["params"]) for s in strategies["strategies"]}
    names = [entry["id"] for entry in models["data"]]
    plain = [name for name in names if not any(name.startswith(f"{other}@") for other in names)]
    if not plain:
        raise Failure("the server lists no model")
    _check(options, has)
    sampling = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    return [
        Setting(
            strategy=name,
            model=plain[0],
            params=_params(options, name, has[name]),
            sampling={k: v for k, v in sampling.items() if v is not None} | {"seed": options.seed},
            budget=limits(options),
            route=options.route,
        )
        for name in options.strategies
    ]


def sampling_of(setting: Setting, epoch: int) -> Json:
    """The sampling of an epoch (from 1): each has seeds of its own."""
    seed = setting.sampling["seed"] + (epoch - 1) * EPOCH_SEEDS
    return {**setting.sampling, "seed": seed}


def _check(options: EvalOptions, has: Mapping[str, Mapping[str, Any]]) -> None:
    for name in options.strategies:
        if name not in has:
            raise Failure(f"--strategy: there is no {name!r} here: {', '.join(has)}", REFUSED)
    if len(set(options.strategies)) < len(options.strategies):
        raise Failure(
            "--strategy names one twice; a second setting is a command of its own", REFUSED
        )
    if options.n is not None and not any("n" in has[name] for name in options.strategies):
        raise Failure(f"--n: {' and '.join(options.strategies)} has none", REFUSED)
    for key, _ in options.param:
        owner, dot, _ = key.partition(".")
        if dot and owner not in options.strategies:
            raise Failure(f"--param {key}: --strategy does not name {owner!r}", REFUSED)


def _params(options: EvalOptions, name: str, known: Mapping[str, Any]) -> Json:
    params: Json = {}
    if "n" in known:
        params["n"] = options.n if options.n is not None else known["n"].get("default")
    told = {"n"} if options.n is not None else set()
    for key, value in options.param:
        owner, dot, own = key.partition(".")
        if dot and owner != name:
            continue
        param = own if dot else key
        if param not in known:
            raise Failure(
                f"--param {key}: {name} has no {param!r} (it has {', '.join(known) or 'none'}); "
                "STRATEGY.KEY=VALUE is for one strategy alone",
                REFUSED,
            )
        if param in told:
            raise Failure(f"--param {key}: given twice for {name}", REFUSED)
        told.add(param)
        params[param] = value
    return params
