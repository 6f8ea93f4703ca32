"""Resolution of a request to a run specification.

Every name is looked up and every limit is checked before anything is started.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secondpass.service.common.client_messages import ClientMessage
from secondpass.service.common.errors import InvalidRequest, NotAdmitted, NotFound, excerpt
from secondpass.service.common.image_urls import check_images
from secondpass.service.common.limits import Limits, RequestBudget
from secondpass.service.common.validation import unknown_name
from secondpass.service.config.api_keys import Tenant
from secondpass.service.config.default_limits import DefaultLimits, default_limits
from secondpass.service.config.tables import RoleTable
from secondpass.service.http.schema import validate
from secondpass.service.http.state import ServedEngine, Service
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
from secondpass.strategies.api.conversations import question_of
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.values import Message, Role, Sampling, TextPart

_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
"""Unicode categories of invisible characters.

Unassigned characters are not among them, because a newer Unicode may define them as visible.
"""

EQUAL_SAMPLES = "must be above 0 when n is above 1: at 0 all samples are the same"


def find_strategy(name: str, *, field: str) -> Strategy[Any]:
    """Return the strategy called `name`. Raises NotFound, which lists the allowed names."""
    if name not in STRATEGIES:
        raise NotFound(unknown_name(name, STRATEGIES, "strategy"), field=field)
    return STRATEGIES[name]


def default_strategy(
    service: Service,
    messages: Sequence[Message],
    task: TaskRequest | None,
) -> str:
    """Return the name of the default strategy for a request that does not choose one.

    Open questions have their own default, because a vote cannot compare their answers. It applies only if the question
    is the only message and has no image, since its reviews read neither a conversation nor an image. `max_n` must allow
    its number of chains.
    """
    settings = service.settings
    open_default = STRATEGIES[settings.default_open_strategy]
    has_room = open_default.defaults.chains <= settings.max_n
    is_alone = [message.role for message in messages] == ["user"] and not _has_image(messages[0])
    if not is_alone or not has_room:
        return settings.default_strategy
    kind = guess(messages[0].text).kind if task is None else task.kind
    return open_default.name if kind == "open" else settings.default_strategy


def find_params(
    strategy: Strategy[Any],
    values: Mapping[str, Any],
    service: Service,
    *,
    at: str,
) -> Params:
    """Validate the strategy's params, including the operator's limits. Raises InvalidRequest.

    `at` is the path of the params in the request.
    """
    _reject_equal_samples(strategy, values, at)
    params: Params = validate(strategy.params, values, at=at)
    limit = service.settings.max_n
    if params.chains > limit:
        raise InvalidRequest(_limit_message(limit), field=f"{at}.n")
    return params


def check_sampling(service: Service, sampling: Sampling, *, field: str) -> None:
    """Raise InvalidRequest if the token cap at `field` exceeds the operator's maximum."""
    limit = service.settings.max_sampling_tokens
    if (sampling.max_tokens or 0) > limit:
        raise InvalidRequest(_limit_message(limit), field=field)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options at the top level of a /solve request, or under `secondpass` in a chat request.

    `at` is the prefix of their paths in the request, and `notes` are notes on the request for its response.
    """

    task: TaskRequest | None
    models: Mapping[Role, str]
    budget: RequestBudget
    notes: dict[str, str] = field(default_factory=dict)
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
    options: RunOptions,
) -> RunSpec:
    """Build the run specification of a request.

    The capabilities that the strategy needs are checked when the run starts.

    Raises:
        InvalidRequest: A name is unknown, a limit exceeds the operator's maximum, or a price or sandbox is missing.
        NotAdmitted: The actor's engine is not ready.
    """
    nodes = _resolve_nodes(service, options)
    requested = _requested_limits(service, options)
    profiles = profiles_of(service, nodes)
    defaults = {role: _defaults(service, role, profiles[role]) for role in nodes}
    cap = sampling.max_tokens or defaults["actor"].max_tokens or 1
    default = _default_limits(service, params, nodes["actor"], cap)
    if options.budget.max_cost is not None:
        _require_prices(nodes, options)
    task = _resolve_task(service, messages, options)
    _require_ready(nodes["actor"])
    return RunSpec(
        id=id,
        strategy=strategy,
        params=params,
        messages=messages,
        task=task,
        task_is_explicit=options.task is not None,
        counts_prompts=not {"max_prompt_tokens", "max_cost"}.isdisjoint(requested),
        upstreams={role: node.upstream for role, node in nodes.items()},
        prices={role: node.price for role, node in nodes.items() if node.price is not None},
        limits=Limits(**(default.limits.model_dump() | requested)),
        has_default_deadline="deadline_ms" not in requested,
        profiles=profiles,
        calibrations=calibrations_of(service, nodes),
        defaults=defaults,
        sampling=sampling,
        cache_salt=tenant.cache_salt,
        notes=options.notes
        | {name: note for name, note in default.notes.items() if name not in requested},
        returns_partial=_returns_partial(options),
    )


def _defaults(service: Service, role: Role, profile: Profile) -> RoleDefaults:
    """Return the sampling defaults of a role: its table's, else the operator's, else those of its model."""
    settings = service.settings
    table: RoleTable = getattr(settings.roles, role)
    by_profile = min(profile.cap, settings.max_sampling_tokens)
    cap = table.max_tokens or settings.max_tokens_per_call or by_profile
    return RoleDefaults(table.temperature, cap)


def profiles_of(service: Service, nodes: Mapping[Role, ServedEngine]) -> dict[Role, Profile]:
    """Return the model profile of each role."""
    return {role: service.settings.profile_of(node.engine.model) for role, node in nodes.items()}


def calibrations_of(
    service: Service, nodes: Mapping[Role, ServedEngine]
) -> dict[Role, Calibration]:
    """Return the calibration of each role whose model has one."""
    known = service.calibrations
    return {
        role: known[node.engine.model] for role, node in nodes.items() if node.engine.model in known
    }


def read_conversation(service: Service, turns: Sequence[ClientMessage]) -> tuple[Message, ...]:
    """Return the conversation as engines get it. Raises InvalidRequest if it cannot be answered."""
    messages = tuple(turn.to_message() for turn in turns)
    check_images(messages, service.settings.allow_image_hosts, field="messages")
    _check_conversation(messages, field="messages")
    return messages


def notes_on(turns: Sequence[ClientMessage]) -> dict[str, str]:
    """Return the notes on what engines do not get of a conversation."""
    count = sum(turn.has_reasoning for turn in turns)
    what = f"engines do not get the reasoning of earlier turns ({count} in this conversation)"
    return {"earlier reasoning": what} if count else {}


def _check_conversation(messages: Sequence[Message], *, field: str) -> None:
    """Raise InvalidRequest if a conversation cannot be answered.

    The last user turn, or any turn of a conversation without one, must contain visible text or an image. No text may
    nest braces too deeply.
    """
    if not messages:
        raise InvalidRequest("must not be empty", field=field)
    for position, message in enumerate(messages):
        check_braces(message.text, field=f"{field}.{position}.content")
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    read = users[-1:] or range(len(messages))
    if all(is_blank(messages[i].text) and not _has_image(messages[i]) for i in read):
        raise InvalidRequest("must not be blank", field=f"{field}.{read[-1]}.content")


def check_braces(text: str, *, field: str) -> None:
    """Raise InvalidRequest if braces are nested deeply enough to hang a parser."""
    if brace_depth(text) > MAX_BRACE_DEPTH:
        raise InvalidRequest(
            f"must not nest braces deeper than {MAX_BRACE_DEPTH} levels", field=field
        )


def is_blank(text: str) -> bool:
    """Return whether `text` has only spaces, control characters and format characters."""
    return _is_invisible(text[:100]) and _is_invisible(set(text))


def _is_invisible(characters: Iterable[str]) -> bool:
    return all(unicodedata.category(character) in _INVISIBLE for character in characters)


def _has_image(message: Message) -> bool:
    parts = () if isinstance(message.content, str) else message.content or ()
    return any(not isinstance(part, TextPart) for part in parts)


def _reject_equal_samples(strategy: Strategy[Any], values: Mapping[str, Any], at: str) -> None:
    """Raise InvalidRequest for several samples at temperature 0, which would all be the same."""
    field = strategy.params.all_fields().get("n")
    n = values.get("n", field.default if field else 1)
    temperature = values.get("temperature")
    is_several = isinstance(n, int) and n > 1
    if is_several and temperature == 0 and not isinstance(temperature, bool):
        raise InvalidRequest(EQUAL_SAMPLES, field=f"{at}.temperature")


def _resolve_nodes(service: Service, options: RunOptions) -> dict[Role, ServedEngine]:
    nodes = dict(service.roles)
    for role, model in options.models.items():
        if role in nodes and nodes[role].engine.model == model:
            continue
        if model not in service.models:
            known = unknown_name(model, service.models, "model")
            raise NotFound(known, field=f"{options.at}models.{role}")
        nodes[role] = (
            service.find_node(model)
            if role == "reward"
            else service.find_generating_node(model, field=f"{options.at}models.{role}")
        )
    return nodes


def _requested_limits(service: Service, options: RunOptions) -> dict[str, Any]:
    """Return the limits that the request sets. Raises InvalidRequest above the operator's maximum."""
    requested = options.budget.model_dump(exclude_none=True, exclude={"partial"})
    for name, limit in service.settings.operator_maxima:
        if limit is not None and requested.get(name, 0) > limit:
            raise InvalidRequest(_limit_message(limit), field=f"{options.at}budget.{name}")
    return requested


def _default_limits(
    service: Service, params: Params, actor: ServedEngine, cap: int
) -> DefaultLimits:
    """Return the limits of a run whose request sets none; `cap` limits the completions of the actor."""
    engine = actor.engine
    fitting = min(cap, engine.context_window or cap)
    rate = service.shared.stats.rates.slow(engine.model)
    return default_limits(service.settings, params, fitting, rate)


def _returns_partial(options: RunOptions) -> bool:
    """Return the requested `partial`; by default True unless the task is explicit and not open."""
    is_extracted = options.task is not None and options.task.kind != "open"
    requested = options.budget.partial
    return not is_extracted if requested is None else requested


def _limit_message(limit: float) -> str:
    return f"must be at most {limit}, the operator's limit"


def _require_prices(nodes: Mapping[Role, ServedEngine], options: RunOptions) -> None:
    for role, node in nodes.items():
        if node.price is None:
            raise InvalidRequest(
                f"requires prices, but the {role}'s engine {node.engine.name!r} has none configured",
                field=f"{options.at}budget.max_cost",
            )


def _resolve_task(service: Service, messages: Sequence[Message], options: RunOptions) -> Task:
    if options.task is None:
        return guess(question_of(messages))
    if options.task.tests is not None and service.shared.sandboxes is None:
        field = f"{options.at}task.tests"
        raise InvalidRequest(
            "requires a sandbox, which the operator has not enabled (setting: sandbox)",
            field=field,
        )
    return options.task.as_task()


def _require_ready(actor: ServedEngine) -> None:
    if not actor.engine.ready:
        reason = excerpt(actor.why_not_ready or "not probed yet")
        raise NotAdmitted(f"the actor's engine {actor.engine.name!r} is not ready: {reason}")
