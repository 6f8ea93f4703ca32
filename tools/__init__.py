"""What a developer's machine needs around the service: a model, an engine, a demo. Not shipped."""
