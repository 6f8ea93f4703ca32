"""Tasks: guess the kind of a question, extract an answer from a text, and normalise it."""
