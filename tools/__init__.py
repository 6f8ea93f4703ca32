"""Development tools: a demo, a model, an engine, locks and checks. Not part of the distribution."""
