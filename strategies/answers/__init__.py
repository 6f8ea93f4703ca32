"""Kinds of answers: guess the task, extract an answer from a text, normalise it."""
