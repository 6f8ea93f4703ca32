"""Support for reward engine tests: a conversation to score, and a function that scores it."""

from secondpass.service.engines.reward.engine import PoolingEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import Message
from tests.engines.support import run

QUESTION = Message(role="user", content="What is 6 times 7?")
ANSWER = Message(role="assistant", content="It is 42.")
CALL = Call(role="reward", purpose="reward", messages=(QUESTION, ANSWER), reward=True)


async def score(engine: PoolingEngine, call: Call = CALL) -> Delta:
    (delta,) = await run(engine, call)
    return delta
