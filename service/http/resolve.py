"""From a request to a run's specification: every name is looked up and every limit checked before anything is started."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secondpass.service.common.errors import InvalidRequest, NotAdmitted, NotFound, excerpt
from secondpass.service.common.limits import Limits
from secondpass.service.config.api_keys import Tenant
from secondpass.service.config.tables import RoleTable
from secondpass.service.http.schema import choose, read
from secondpass.service.http.state import Node, Service
from secondpass.service.runs.run_spec import RoleDefaults, RunSpec
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import (
    MAX_BRACE_DEPTH,
    Task,
    TaskRequest,
    brace_depth,
    guess,
)
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.values import Message, Role, Sampling, TextPart

_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
"""Unicode's categories; unassigned characters may be those of a newer Unicode, and so visible."""


EQUAL_SAMPLES = "0 makes all samples the same: above 0, or n = 1"


def find_strategy(name: str, *, field: str) -> Strategy[Any]:
    """The strategy of that name. Raises NotFound, which lists those that there are."""
    if name not in STRATEGIES:
        raise NotFound(choose(name, STRATEGIES, "strategy"), field=field)
    return STRATEGIES[name]


def default_strategy(
    service: Service,
    messages: Sequence[Message],
    task: TaskRequest | None,
    sampling: Sampling,
) -> str:
    """The name of the strategy of a request that names none.

    Open questions have a default of their own, as their answers cannot vote. It holds where a question stands alone (a
    review reads neither a conversation nor an image), is not drawn at temperature 0, and where `max_n` leaves room for it.
    """
    settings = service.settings
    wanted = STRATEGIES[settings.default_open_strategy]
    has_room = wanted.defaults.chains <= settings.max_n
    is_alone = len(messages) == 1 and not _has_image(messages[0])
    if not is_alone or not has_room or sampling.temperature == 0:
        return settings.default_strategy
    kind = guess(messages[0].text).kind if task is None else task.kind
    return wanted.name if kind == "open" else settings.default_strategy


def find_params(
    strategy: Strategy[Any],
    values: Mapping[str, Any],
    sampling: Sampling,
    service: Service,
    *,
    at: str,
) -> Params:
    """The strategy's parameters, within the operator's limits; `at` is where they stand in the request."""
    _reject_equal_samples(strategy, values, at)
    params: Params = read(strategy.params, values, at=at)
    most = service.settings.max_n
    if params.chains > most:
        raise InvalidRequest(f"is at most {most} here", field=f"{at}.n")
    if params.chains > 1 and sampling.temperature == 0:
        where = "sampling.temperature" if at.startswith("strategy") else "temperature"
        raise InvalidRequest(EQUAL_SAMPLES, field=where)
    return params


def check_sampling(service: Service, sampling: Sampling, *, field: str) -> None:
    """Raise InvalidRequest if the cap of completion tokens, which stands at `field`, is over the operator's maximum."""
    most = service.settings.max_sampling_tokens
    if (sampling.max_tokens or 0) > most:
        raise InvalidRequest(f"is at most {most} here", field=field)


@dataclass(frozen=True, slots=True)
class Terms:
    """What stands at the top of a /solve request and in the field `secondpass` of a chat; `at` is that place."""

    task: TaskRequest | None
    models: Mapping[Role, str]
    budget: Limits
    at: str = ""


def resolve(
    service: Service,
    tenant: Tenant,
    *,
    id: str,  # noqa: A002 - the name on the wire
    strategy: Strategy[Any],
    params: Params,
    messages: tuple[Message, ...],
    sampling: Sampling,
    terms: Terms,
) -> RunSpec:
    """What a request asks to be run. Raises InvalidRequest and its kinds, and NotAdmitted.

    What the strategy needs of its engines is checked when the run begins.
    """
    nodes = _find_models(service, terms)
    limits = _within_maxima(service, terms)
    if terms.budget.max_cost is not None:
        _require_prices(nodes, terms)
    task = _find_task(service, messages, terms)
    _require_ready(nodes["actor"])
    return RunSpec(
        id=id,
        strategy=strategy,
        params=params,
        messages=messages,
        task=task,
        task_is_explicit=terms.task is not None,
        upstreams={role: node.upstream for role, node in nodes.items()},
        prices={role: node.price for role, node in nodes.items() if node.price is not None},
        limits=limits,
        profiles=profiles_of(service, nodes),
        calibrations=calibrations_of(service, nodes),
        defaults={role: _defaults(service, role) for role in nodes},
        sampling=sampling,
        max_tokens_per_call=service.settings.max_tokens_per_call,
        cache_salt=tenant.cache_salt,
    )


def _defaults(service: Service, role: Role) -> RoleDefaults:
    table: RoleTable = getattr(service.settings.roles, role)
    return RoleDefaults(table.temperature, table.max_tokens)


def profiles_of(service: Service, nodes: Mapping[Role, Node]) -> dict[Role, Profile]:
    """What is particular to the model of each role."""
    return {role: service.settings.profile_of(node.engine.model) for role, node in nodes.items()}


def calibrations_of(service: Service, nodes: Mapping[Role, Node]) -> dict[Role, Calibration]:
    """What was measured of the model of each role, where anything was."""
    known = service.calibrations
    return {
        role: known[node.engine.model] for role, node in nodes.items() if node.engine.model in known
    }


def check_conversation(messages: Sequence[Message], *, field: str = "messages") -> None:
    """Raise InvalidRequest unless there is a user's turn that says something, and nothing that hangs a parser."""
    for position, message in enumerate(messages):
        check_braces(message.text, field=f"{field}.{position}.content")
    for position, message in reversed(list(enumerate(messages))):
        if message.role == "user":
            if is_blank(message.text) and not _has_image(message):
                raise InvalidRequest("is blank", field=f"{field}.{position}.content")
            return
    raise InvalidRequest("needs a turn of the user", field=field)


def check_braces(text: str, *, field: str) -> None:
    """Raise InvalidRequest for braces nested as only an attack on a parser nests them."""
    if brace_depth(text) > MAX_BRACE_DEPTH:
        raise InvalidRequest(f"nests braces deeper than {MAX_BRACE_DEPTH}", field=field)


def is_blank(text: str) -> bool:
    """Has the text no visible character? Spaces, controls and what only formats others are none."""
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def _has_image(message: Message) -> bool:
    parts = () if isinstance(message.content, str) else message.content or ()
    return any(not isinstance(part, TextPart) for part in parts)


def _reject_equal_samples(strategy: Strategy[Any], values: Mapping[str, Any], at: str) -> None:
    """At temperature 0 all samples are one: asking for several is a mistake, whoever sets it."""
    field = strategy.params.all_fields().get("n")
    n = values.get("n", field.default if field else 1)
    temperature = values.get("temperature")
    is_several = isinstance(n, int) and n > 1
    if is_several and temperature == 0 and not isinstance(temperature, bool):
        raise InvalidRequest(EQUAL_SAMPLES, field=f"{at}.temperature")


def _find_models(service: Service, terms: Terms) -> dict[Role, Node]:
    nodes = dict(service.roles)
    for role, model in terms.models.items():
        if role in nodes and nodes[role].engine.model == model:
            continue
        if model not in service.models:
            known = choose(model, service.models, "model")
            raise NotFound(known, field=f"{terms.at}models.{role}")
        nodes[role] = (
            service.node_of_model(model)
            if role == "reward"
            else service.writer_of_model(model, field=f"{terms.at}models.{role}")
        )
    return nodes


def _within_maxima(service: Service, terms: Terms) -> Limits:
    """The budget with the operator's defaults in it. Raises InvalidRequest for a limit over a maximum."""
    asked = terms.budget.model_dump(exclude_none=True)
    for name, most in service.settings.operator_maxima:
        if most is not None and asked.get(name, 0) > most:
            raise InvalidRequest(f"is at most {most} here", field=f"{terms.at}budget.{name}")
    return Limits(**(service.settings.default_limits.model_dump() | asked))


def _require_prices(nodes: Mapping[Role, Node], terms: Terms) -> None:
    for role, node in nodes.items():
        if node.price is None:
            raise InvalidRequest(
                f"needs prices, and none are configured for the {role}'s engine {node.engine.name!r}",
                field=f"{terms.at}budget.max_cost",
            )


def _find_task(service: Service, messages: Sequence[Message], terms: Terms) -> Task:
    if terms.task is None:
        question = next(m.text for m in reversed(messages) if m.role == "user")
        return guess(question)
    if terms.task.tests is not None and service.shared.sandboxes is None:
        field = f"{terms.at}task.kind"
        raise InvalidRequest(
            "'code' with tests needs a sandbox, which the operator did not allow (setting sandbox)",
            field=field,
        )
    return terms.task.as_task()


def _require_ready(actor: Node) -> None:
    if not actor.engine.ready:
        why = excerpt(actor.why_not_ready or "not asked yet")
        raise NotAdmitted(f"the actor's engine {actor.engine.name!r} is not ready: {why}")
