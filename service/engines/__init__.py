"""Engine implementations, one package for each kind.

openai: any OpenAI-compatible server over HTTP, with extra features on vLLM.
vllm: vLLM in this process.
reward: a reward model behind vLLM's pooling server.
scripted: the fake engine for tests and demos.
common: shared code.
"""
