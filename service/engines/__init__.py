"""Engines: where completions come from, one folder for each kind.

openai    any OpenAI-compatible server over HTTP; more with vLLM's dialect
vllm      vLLM in this process
reward    a reward model behind vLLM's pooling server
scripted  the fake that ships
common    what these share
"""
