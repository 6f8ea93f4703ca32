"""Where completions come from: one module a kind of engine, and wrappers of the same shape around them.

    http       any OpenAI-compatible server; one that speaks vLLM's dialect can do most
    scripted   the fake that ships
    limited    admission: how many calls an engine sees at once, and which waits for which
    retrying   another attempt where that may work

Only `service/app.py` stacks them: Retrying(Limited(Http)).
"""
