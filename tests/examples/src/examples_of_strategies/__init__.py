"""Strategies that were written from docs/adding-a-strategy.md alone."""

import importlib.resources

from secondpass.strategies.prompts import add_prompts

add_prompts(importlib.resources.files(__package__) / "prompts")
