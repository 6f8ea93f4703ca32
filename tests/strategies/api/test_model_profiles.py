"""Profiles selected by a model's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.model_profiles import OTHER, profile_of

MODELS = {
    "Qwen/Qwen3-8B": ("qwen3", True),
    "Qwen/Qwen3-4B-Instruct-2507": ("qwen3-instruct", False),
    "Qwen/QwQ-32B": ("qwen3", True),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": ("qwen2", False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ("deepseek-r1", True),
    "openai/gpt-oss-20b": ("gpt-oss", True),
    "mistralai/Magistral-Small-2506": ("magistral", True),
    "meta-llama/Llama-3.1-8B-Instruct": ("llama", False),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("smollm", False),
    "HuggingFaceTB/SmolLM3-3B": ("smollm3", True),
    "some/model": ("other", False),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_name_selects_the_family(model: str) -> None:
    profile = profile_of(model)
    assert (profile.name, profile.is_thinking) == MODELS[model]
    assert profile.own_reference is not profile.is_thinking


@given(st.sampled_from(sorted(MODELS)), st.one_of(st.none(), st.floats(0, 2)))
def test_a_reasoning_model_never_judges_at_temperature_0(
    model: str, requested: float | None
) -> None:
    profile = profile_of(model)
    temperature = profile.judge_temperature(requested)
    assert temperature > 0 or not profile.is_thinking
    assert temperature == requested or not requested


def test_a_conclusion_is_the_text_after_the_reasoning() -> None:
    qwen = profile_of("Qwen3-8B")
    assert qwen.conclusion("<think>41? no.</think>\n\nIt is 42.") == "It is 42."
    assert qwen.conclusion("It is 42.") == "It is 42."
    assert qwen.conclusion("<think>only thoughts</think>") == "<think>only thoughts</think>"
    assert profile_of("nobody") == OTHER
