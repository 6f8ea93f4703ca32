"""The engine that calls an OpenAI-compatible server over HTTP."""
