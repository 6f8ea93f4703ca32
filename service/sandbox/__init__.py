"""Sandbox that runs model-written code against its tests."""
