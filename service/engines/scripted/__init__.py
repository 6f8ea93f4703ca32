"""Scripted fake engine, for tests and for trying the service without a model."""
