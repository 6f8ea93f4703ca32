"""Label probabilities: read after a draft or in a conversation of their own."""

from __future__ import annotations

import pytest

from secondpass.service.common.events import (
    VerdictSeen,
)
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.errors import (
    CapabilityMissing,
    UnusableCompletion,
)
from secondpass.strategies.api.values import SOLVE
from secondpass.testing.support import (
    make_run,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]


async def test_a_probe_is_a_further_turn_of_the_draft_and_reads_normalised_labels() -> None:
    engine = ScriptedEngine(lambda *_: Reply("So 42.", labels={"yes": 0.6, "no": 0.2}))
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    read = await run.probe(draft, "is_right", ("yes", "no"))
    assert read.probabilities == {"yes": pytest.approx(0.75), "no": pytest.approx(0.25)}
    assert read.mass == pytest.approx(0.8)
    assert read.expect({"yes": 1.0, "no": 0.0}) == pytest.approx(0.75)
    call = engine.calls[1]
    assert call.labels == ("yes", "no")
    assert call.thinking is False
    assert [m.role for m in call.messages] == ["user", "assistant", "user"]
    assert any(isinstance(event, VerdictSeen) for event in run.trace.events)


async def test_labels_are_read_in_a_conversation_of_their_own() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    await run.labels("is_right", ("yes", "no"))
    assert [m.text for m in engine.calls[0].messages] == ["Is this right?"]


async def test_labels_without_any_probability_are_no_verdict() -> None:
    run = make_run(ScriptedEngine(lambda *_: Reply("x", labels={})))
    with pytest.raises(UnusableCompletion):
        await run.labels("is_right", ("yes", "no"))


async def test_a_missing_capability_is_named_and_nothing_is_sent() -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    run = make_run(engine)
    with pytest.raises(CapabilityMissing, match=r"'scripted'.*labels"):
        await run.labels("is_right", ("yes", "no"))
    assert not engine.calls
