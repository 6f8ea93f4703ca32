"""OpenAI-compatible server of one model, run as a process; it is slow for questions with `slowly`."""

import argparse
import asyncio
import json

from aiohttp import web

from tests.engines.upstream import DONE, Body, Handler, Upstream, chunk, event, start_stream

WORDS = [f"word{i} " for i in range(20)]
SLOWLY = "slowly"
ANSWER = "".join(WORDS)


def handler(pause: float) -> Handler:
    """Return a handler that streams WORDS, `pause` seconds apart if the question contains SLOWLY."""

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        seconds = pause if SLOWLY in json.dumps(body["messages"]) else 0.0
        response = await start_stream(request)
        for word in WORDS:
            await response.write(event(chunk(word)))
            await asyncio.sleep(seconds)
        await response.write(event(chunk(finish="stop")) + DONE)
        return response

    return handle


async def serve(port: int, model: str, pause: float) -> None:
    """Serve until the process is terminated."""
    upstream = Upstream(models=[{"id": model, "owned_by": "tests"}], chat=handler(pause))
    async with upstream.serving(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pause", type=float, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.model, options.pause))
