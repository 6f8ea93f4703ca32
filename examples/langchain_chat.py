"""Use secondpass as a LangChain chat model.

    pip install langchain-openai
    python examples/langchain_chat.py

BASE_URL and API_KEY are read from the environment.
"""

import os

import openai
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
API_KEY = os.environ.get("API_KEY", "none")
QUESTION = "What is 6 times 7?"


def first_model() -> str:
    """Return the first model that the service lists."""
    with openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY) as client:
        return client.models.list().data[0].id


def chat_model(name: str, **options: object) -> ChatOpenAI:
    """Return a chat model; `options` are the fields of `secondpass` in the request."""
    return ChatOpenAI(
        base_url=f"{BASE_URL}/v1",
        api_key=SecretStr(API_KEY),
        model=name,
        max_tokens=128,
        stream_usage=True,
        extra_body={"secondpass": options} if options else None,
    )


def main() -> None:
    """Invoke a strategy, with options and without, and stream one."""
    model = first_model()
    reply = chat_model(f"{model}@self_consistency").invoke(QUESTION)
    print("invoke:", reply.text)

    # LangChain drops the response field `secondpass`: use the SDK for confidence and stop_reason.
    voting = chat_model(model, strategy="self_consistency", params={"n": 3}, task={"kind": "math"})
    reply = voting.invoke(QUESTION)
    print("options:", reply.text)
    print("usage:", reply.usage_metadata)

    print("stream: ", end="")
    for chunk in chat_model(f"{model}@single").stream(QUESTION):
        print(chunk.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
