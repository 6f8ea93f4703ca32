"""Control tokens listed by tokenizers, and by the configuration that vLLM serves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.common.control_tokens import (
    listed_control_tokens,
    tokenizer_control_tokens,
)
from secondpass.service.engines.openai.tokenizer_info import control_tokens_of

TEMPLATE = "{% for m in messages %}<@turn@>{{ m.role }} {{ m.content }}<@end@>{% endfor %}\n\n<div>"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("<@x@>"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = (
    "bos_token", "chat_template", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
)  # fmt: skip


def test_special_tokens_and_those_of_the_template_are_control_tokens() -> None:
    added = ["<@turn@>", "<table>", "\n\n", "   ", "<|im_start|>"]
    assert listed_control_tokens(["<@eos@>", "!", "[INST]"], added, TEMPLATE) == {
        "<@eos@>",
        "<@turn@>",
    }


@pytest.mark.parametrize(
    "info",
    [
        {"bos_token": "<@a@>"},
        {"eos_token": {"content": "<@a@>", "lstrip": False}},
        {"additional_special_tokens": ["<@a@>", None, 3]},
        {"extra_special_tokens": {"image_token": "<@a@>"}},
        {"added_tokens_decoder": {"5": {"content": "<@a@>", "special": True}}},
        {"added_tokens_decoder": {"5": "<@a@>"}, "chat_template": "x <@a@> y"},
        {
            "added_tokens_decoder": {"5": {"content": "<@a@>"}},
            "chat_template": {"default": "<@a@>"},
        },
        {
            "added_tokens_decoder": {"5": "<@a@>"},
            "chat_template": [{"name": "rag", "template": "<@a@>"}],
        },
    ],
)
def test_every_form_of_a_configuration_is_read(info: dict[str, Any]) -> None:
    assert control_tokens_of(info) == {"<@a@>"}


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"added_tokens_decoder": {"5": {"content": "<@a@>", "special": False}}},
        {"added_tokens_decoder": {"5": "<table>"}, "chat_template": "x"},
        {"bos_token": "the", "eos_token": ["<@a@>"], "chat_template": 7, "added_tokens_decoder": 1},
    ],
)
def test_other_tokens_of_a_configuration_are_ignored(info: dict[str, Any]) -> None:
    assert control_tokens_of(info) == frozenset()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
def test_any_configuration_yields_control_tokens_or_none(info: dict[str, Any]) -> None:
    assert control_tokens_of(info) <= {"<@x@>"} | {
        text for text in _texts(info) if len(text) >= 3 and not text[0].isalnum()
    }


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return [text for child in children for text in _texts(child)]


@pytest.mark.vllm
def test_a_tokenizer_of_hugging_face_lists_its_tokens() -> None:
    from tokenizers import AddedToken, Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<@eos@>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<@turn@>"]})
    tokenizer.add_tokens(
        [AddedToken("<@tool@>", special=False), AddedToken("<table>", special=False)]
    )
    assert tokenizer_control_tokens(tokenizer, None) == {"<@eos@>", "<@turn@>"}
    tokenizer.chat_template = "{{ '<@tool@>' }}"
    assert tokenizer_control_tokens(tokenizer, None) == {"<@eos@>", "<@turn@>", "<@tool@>"}
    assert tokenizer_control_tokens(tokenizer, "other") == {"<@eos@>", "<@turn@>"}
