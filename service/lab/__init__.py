"""Measurement: pools of recorded completions, evaluation metrics, and reports; unused while serving."""
