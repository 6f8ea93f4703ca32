"""The sandbox in which code that a model wrote runs against its tests."""
