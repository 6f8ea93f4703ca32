"""Default caps, budgets and deadlines: formulas, minima and the operator's maxima."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secondpass.service.config.default_limits import (
    MIN_DEADLINE_MS,
    MIN_TOKENS,
    DefaultLimits,
    default_limits,
)
from secondpass.service.config.settings import Settings, load
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.model_profiles import OTHER, Profile, profile_of
from secondpass.strategies.api.registry import Params


def settings_of(**values: Any) -> Settings:
    return Settings(engine="scripted", **values)


def limits_of(
    strategy: str, params: dict[str, Any], cap: int, rate: float | None, **settings: Any
) -> DefaultLimits:
    chosen: Params = STRATEGIES[strategy].params.model_validate(params)
    return default_limits(settings_of(**settings), chosen, cap, rate)


@pytest.mark.parametrize(
    ("strategy", "params", "calls"),
    [
        ("single", {}, 1),
        ("self_consistency", {"n": 8}, 8),
        ("self_refine", {}, 4),
        ("self_refine", {"n": 2, "max_rounds": 2}, 14),
        ("critic_retry", {"mode": "sequential", "max_rounds": 3}, 8),
        ("critic_retry", {"n": 5}, 10),
        ("iterative_deepening", {"n": 3, "max_triggers": 1}, 6),
        ("self_prm", {"n": 4}, 8),
        ("meta_rm", {"n": 4, "k": 4}, 12),
    ],
)
def test_the_default_budget_allows_the_cap_for_each_call(
    strategy: str, params: dict[str, Any], calls: int
) -> None:
    found = limits_of(strategy, params, 10_000, None)
    assert found.limits.max_tokens == max(MIN_TOKENS, calls * 10_000)
    assert found.notes == {}


@pytest.mark.parametrize(
    ("strategy", "params", "rate", "deadline_ms"),
    [
        ("single", {}, 1000.0, MIN_DEADLINE_MS),
        ("single", {}, 50.0, 200_000),
        ("self_consistency", {"n": 8}, 50.0, 400_000),
        ("self_consistency", {"n": 8, "width": 8}, 50.0, 200_000),
        ("self_consistency", {"n": 8, "stop": "none"}, 50.0, 200_000),
        ("self_consistency", {"n": 8, "stop": "esc"}, 50.0, 400_000),
        ("self_consistency", {"n": 8, "first": 2}, 50.0, 200_000),
        ("self_consistency", {"n": 3}, 50.0, 200_000),
        ("meta_rm", {"n": 8, "k": 2}, 50.0, 400_000),
        ("self_refine", {}, 100.0, 400_000),
        ("critic_retry", {"n": 8, "width": 4}, 100.0, 400_000),
        ("single", {}, None, 600_000),
    ],
)
def test_the_default_deadline_allows_the_cap_for_each_call_at_the_measured_rate(
    strategy: str, params: dict[str, Any], rate: float | None, deadline_ms: int
) -> None:
    found = limits_of(strategy, params, 10_000, rate)
    assert found.limits.deadline_ms == deadline_ms
    assert found.notes == {}


def test_a_default_above_the_operators_maximum_is_reduced_with_a_note() -> None:
    found = limits_of("self_consistency", {"n": 64}, 32_768, 10.0)
    assert found.limits.max_tokens == 1_000_000
    assert found.limits.deadline_ms == 600_000
    assert found.notes == {
        "max_tokens": "1000000, the operator's maximum; the default for this run would be 2097152",
        "deadline_ms": "600000, the operator's maximum; the default for this run would be 52428800",
    }


def test_settings_replace_the_computed_defaults() -> None:
    found = limits_of(
        "self_consistency", {"n": 64}, 32_768, 1.0, default_max_tokens=7, default_deadline_ms=9
    )
    assert (found.limits.max_tokens, found.limits.deadline_ms) == (7, 9)
    assert found.notes == {}


@example(n=13, cap=31, rate=1.0, max_tokens=1, max_deadline=120_000)
@given(
    n=st.integers(1, 64),
    cap=st.integers(1, 131_072),
    rate=st.none() | st.floats(1e-3, 1e5),
    max_tokens=st.integers(1, 10**7),
    max_deadline=st.integers(1, 10**7),
)
def test_defaults_never_exceed_the_operators_maxima(
    n: int, cap: int, rate: float | None, max_tokens: int, max_deadline: int
) -> None:
    found = limits_of(
        "self_consistency",
        {"n": n},
        cap,
        rate,
        max_budget_tokens=max_tokens,
        max_deadline_ms=max_deadline,
    )
    limits = found.limits
    assert limits.max_tokens == min(max_tokens, max(MIN_TOKENS, n * cap))
    waves = math.ceil(n / 4)  # this strategy draws four drafts at once
    wanted = math.inf if rate is None else 1000 * waves * cap / rate
    deadline = limits.deadline_ms
    assert deadline is not None
    assert min(max_deadline, MIN_DEADLINE_MS) <= deadline <= max_deadline
    assert deadline == max_deadline or deadline >= wanted
    assert ("deadline_ms" in found.notes) == (rate is not None and deadline < wanted) or (
        max_deadline < MIN_DEADLINE_MS
    )


# -- caps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "cap"),
    [
        ("Qwen/Qwen3-8B", 32_768),
        ("deepseek-r1-distill-qwen-7b", 32_768),
        ("HuggingFaceTB/SmolLM3-3B", 32_768),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_096),
        ("SmolLM2-135M-Instruct", 4_096),
        ("an unknown model", 4_096),
    ],
)
def test_the_cap_of_a_reasoning_model_is_larger(model: str, cap: int) -> None:
    assert profile_of(model).cap == cap


def test_a_profile_may_set_a_cap_or_declare_a_reasoning_model() -> None:
    assert OTHER.model_copy(update={"is_thinking": True}).cap == 32_768
    assert Profile(name="own", is_thinking=True, max_tokens=99).cap == 99


def test_the_file_sets_the_cap_of_a_profile(tmp_path: Any) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[profiles.house]\nmatch = "house*"\nmax_tokens = 777\n')
    settings = load(["--engine", "scripted", "--config", str(file)])
    assert settings.profile_of("house-1").cap == 777
    file.write_text('[profiles.house]\nmatch = "house*"\nis_thinking = true\n')
    settings = load(["--engine", "scripted", "--config", str(file)])
    assert settings.profile_of("house-1").cap == 32_768


def test_the_cap_of_a_profile_must_not_exceed_the_operators_maximum(tmp_path: Any) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'engine = "scripted"\nmax_sampling_tokens = 9\n[profiles.a]\nmatch = "a"\nmax_tokens = 10\n'
    )
    with pytest.raises(Exception, match=r"profiles.a.max_tokens: must be at most .* \(9\), not 10"):
        load(["--config", str(file)])
