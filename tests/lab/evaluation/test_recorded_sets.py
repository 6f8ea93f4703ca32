"""Known figures of recorded samples from real models, and the cost of early stopping.

SECONDPASS_RECORDED is the folder of rec_*.jsonl; the tests are skipped without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secondpass.service.lab.evaluation.intervals import mean
from secondpass.service.lab.evaluation.recorded_sets import RevisionSet, VoteSet, read_recorded_set
from secondpass.service.lab.evaluation.turns import change, count_verdicts, feedback_resistance
from secondpass.service.lab.evaluation.votes import any_correct, majority, replay_votes, single
from secondpass.strategies.voting.stopping import AdaptiveRule, UnbeatableLead

FOLDER = os.environ.get("SECONDPASS_RECORDED", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="SECONDPASS_RECORDED is not set"),
]


def votes(name: str) -> VoteSet:
    made = read_recorded_set(Path(FOLDER) / f"rec_{name}.jsonl")
    assert isinstance(made, VoteSet)
    return made


@pytest.mark.parametrize(
    ("name", "one", "all_voting", "oracle"),
    [
        ("aqua_30", 0.335, 0.585, 0.640),
        ("date_10", 0.624, 0.703, 0.829),
        ("math_rm_8", 0.910, 0.925, 0.960),
        ("crux_10", 0.359, 0.363, 0.475),
        ("gsm8k_qwen05_8", 0.172, 0.241, 0.400),
    ],
)
def test_known_figures_are_reproduced(
    name: str, one: float, all_voting: float, oracle: float
) -> None:
    polls = votes(name).polls
    figures = [mean([of(poll) for poll in polls]) for of in (single, majority, any_correct)]
    assert figures == pytest.approx([one, all_voting, oracle], abs=0.0006)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["aqua_30", "date_10", "math_rm_8"])
def test_early_stopping_saves_samples_with_a_small_loss(name: str, seed: int) -> None:
    polls = votes(name).polls
    everything = mean([majority(poll) for poll in polls])
    for confidence, loss, used in ((0.95, 0.002, 0.75), (0.85, 0.01, 0.5)):
        made = replay_votes(polls, AdaptiveRule(confidence), seed=seed)
        assert everything - made.accuracy <= loss
        assert made.share_used <= used


def test_a_safe_lead_loses_nothing_on_real_votes() -> None:
    polls = votes("date_10").polls
    made = replay_votes(polls, UnbeatableLead())
    assert made.accuracies == pytest.approx([majority(poll) for poll in polls])
    assert made.share_used < 0.75


def test_voting_gains_little_on_similar_samples() -> None:
    polls = votes("crux_10").polls
    gain = mean([majority(p) for p in polls]) - mean([single(p) for p in polls])
    room = mean([any_correct(p) for p in polls]) - mean([single(p) for p in polls])
    assert gain < 0.005
    assert room > 0.1


def test_turn_metrics_of_recorded_repairs() -> None:
    made = read_recorded_set(Path(FOLDER) / "rec_selfrepair_code.jsonl")
    assert isinstance(made, RevisionSet)
    after = {"repair_direct": 0.295, "repair_cot": 0.2783}
    for kind, chains in made.chains.items():
        step = change([[turn.correct for turn in chain] for chain in chains])
        assert (step.before, step.after) == pytest.approx((0.2583, after[kind]), abs=0.0001)
        assert step.broken == 0
        assert count_verdicts(chain[0] for chain in chains).accuracy == 1, (
            "unit tests are the critic"
        )
        assert feedback_resistance(chains) == 1
