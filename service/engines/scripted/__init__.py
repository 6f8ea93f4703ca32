"""The engine that replies by a script: for tests, and for trying the service without a model."""
