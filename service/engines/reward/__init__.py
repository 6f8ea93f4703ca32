"""The engine that scores with a reward model behind vLLM."""
