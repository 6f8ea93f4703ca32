"""A tiny reward model with random weights: a folder for vLLM to serve, and its reference scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from secondpass.strategies.api.values import Message
from tools.fetch_model import fetch


@dataclass(frozen=True)
class RewardModel:
    """The model in `folder`, run by transformers in float32."""

    folder: Path
    model: Any
    tokenizer: Any

    def render(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of the conversation with a finished last turn."""
        turns = [message.model_dump(exclude_none=True) for message in messages]
        ids: list[int] = self.tokenizer.apply_chat_template(turns, return_dict=False)
        return ids

    def logits(self, messages: Sequence[Message]) -> list[float]:
        """Return the logit of each label for the conversation."""
        with torch.inference_mode():
            (row,) = self.model(torch.tensor([self.render(messages)])).logits.tolist()
        numbers: list[float] = row
        return numbers


def make_reward_model(folder: Path, labels: int) -> RewardModel:
    """Write a two-layer Llama with `labels` labels and the small model's tokenizer to `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(fetch())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
        # Ten times the default, so that the scores of different texts differ by far more than rounding.
        initializer_range=0.2,
    )
    model = LlamaForSequenceClassification(config).float().eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return RewardModel(folder, model, tokenizer)
