"""Use secondpass through the OpenAI SDK.

    python examples/openai_sdk.py

BASE_URL and API_KEY are read from the environment.
"""

import os

import openai
from openai.types.chat import ChatCompletionMessageParam

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
API_KEY = os.environ.get("API_KEY", "none")
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 6 times 7?"}]


def main(client: openai.OpenAI) -> None:
    """Send one question in five ways."""
    model = client.models.list().data[0].id
    create = client.chat.completions.create

    # Without a strategy the request is forwarded to the engine unchanged.
    reply = create(model=model, messages=MESSAGES, max_tokens=128)
    print("plain:", reply.choices[0].message.content)

    # A suffix of the model name selects a strategy.
    reply = create(model=f"{model}@self_consistency", messages=MESSAGES, max_tokens=128)
    print("strategy:", reply.choices[0].message.content)

    # Everything else goes into `secondpass`; the response has a field of the same name.
    options = {"strategy": "self_consistency", "params": {"n": 3}, "task": {"kind": "math"}}
    body = {"secondpass": options}
    reply = create(model=model, messages=MESSAGES, max_tokens=128, extra_body=body)
    report = (reply.model_extra or {})["secondpass"]
    print("answer:", report["answer"])
    print("confidence:", report["confidence"])
    print("stop_reason:", report["stop_reason"])

    print("stream: ", end="")
    for chunk in create(model=f"{model}@single", messages=MESSAGES, max_tokens=128, stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    # An invalid field raises the SDK's error type for the status; `param` names the field.
    try:
        create(
            model=f"{model}@self_consistency",
            messages=MESSAGES,
            extra_body={"secondpass": {"params": {"n": 0}}},
        )
    except openai.BadRequestError as error:
        print("error:", error.status_code, error.code, error.param)


if __name__ == "__main__":
    with openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY) as client:
        main(client)
