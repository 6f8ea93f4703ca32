"""The Run protocol: everything that a strategy sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar, overload

from pydantic import BaseModel

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import GradeCalibration, GradeKind
from secondpass.strategies.api.judgements import Judgement, Preference
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.values import (
    Candidate,
    Capability,
    Completion,
    Draw,
    Message,
    Role,
    StopReason,
    Verdict,
)

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F")
M = TypeVar("M", bound=BaseModel)

DEFAULT_DRAW = Draw()
"""Drawn as the client and the operator ask for."""


class StepStream(Protocol):
    """A completion while it is being written: iterate it for its steps, in order, each once finished.

    Iterating raises what ended the completion early, after the steps that were finished by then.
    """

    @property
    def completion(self) -> Completion:
        """What has been written so far; whole once the iteration has ended."""

    @property
    def is_finished(self) -> bool:
        """True once the engine has finished the completion."""

    @property
    def steps(self) -> int:
        """How many steps are finished by now, read or not."""

    def truncated(self, steps: int) -> Completion:
        """The completion up to the end of its first `steps` steps, to judge it or to continue from there.

        It ends between two tokens where there is a token boundary between two steps; else what follows the last token
        before the end is kept as text. Raises ValueError for less than 0 steps and for more than are finished.
        """

    def __aiter__(self) -> AsyncIterator[str]: ...


After = Completion | StepStream | Literal["question"] | None
"""Where a prompt is placed: as a further turn of a completion's conversation; "question": as the last paragraph of the
client's own question; None: in a fresh conversation."""


class Model(Protocol):
    """What is known of the model of a role."""

    @property
    def profile(self) -> Profile:
        """What is particular to the model's family. Raises RoleMissing where no engine plays the role."""

    @property
    def median_length(self) -> int | None:
        """Median completion tokens of this model's answers, reasoning included, over all strategies.

        None until enough were seen, and under a seed: a repeatable run must not depend on other requests.
        """

    def can(self, *capabilities: Capability) -> bool:
        """True if an engine plays the role and has all of these capabilities, or has not answered yet."""

    def calibration(self, kind: GradeKind = "solution") -> GradeCalibration | None:
        """What was measured of the grades that the model gives its own drafts; None when nothing was."""

    def trust(self, kind: GradeKind = "solution", *, always: bool = False) -> float:
        """How far votes may be weighted by this model's grades of a kind: 0 (not at all) or 1, by its calibration.

        Where grades are not calibrated, or have an AUROC below 0.6, it is 0 and a note says so; `always` (weights were
        asked for whatever was measured) makes it 1.
        """


class Run(Protocol):
    """All that a strategy sees: the question, the verbs, and the best answer so far.

    Every verb draws on the run's budget and deadline. A strategy need not watch either: what it proposed or elected is
    the answer when one of them, or an error, ends the run. `stop_reason` may be set by a strategy that knows why it stops
    early (`accepted`, `consensus`). Placeholders of a prompt are filled with `values`; candidate text among them (see
    `quoting`) is quoted as data, and such a value may be several texts.
    """

    stop_reason: StopReason

    @property
    def question(self) -> str:
        """The text of the last user turn."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The client's conversation, verbatim."""

    @property
    def task(self) -> Task:
        """The kind of the question, and how its answer is found in a text."""

    @property
    def best(self) -> Candidate:
        """The provisional answer. Raises UnusableCompletion while there is none."""

    def model(self, role: Role = "actor") -> Model:
        """What is known of the model of a role; also where no engine plays it."""

    # -- generating ---------------------------------------------------------------------------------

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        visible: bool = False,
        resumable: bool = False,
        schema: Mapping[str, Any] | None = None,
        reserved: Reserve | None = None,
        **values: Value,
    ) -> Completion:
        """One completion of `prompt` (a file's name, filled with `values`, or SOLVE), placed by `after`.

        `visible` streams it to the client. A `resumable` one can be truncated at and continued from any token boundary,
        and is returned also when `draw.max_tokens` truncated it inside its reasoning. `schema` is JSON Schema that the
        engine enforces. `reserved` spends what `reserve` set aside.
        """

    def sample(
        self,
        prompt: str,
        n: int,
        *,
        width: int | None = None,
        batch: int = 1,
        role: Role = "actor",
        after: After = None,
        prefix: Completion | None = None,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> AbstractAsyncContextManager[AsyncIterator[Completion]]:
        """`n` completions of one prompt, each as soon as it is finished; leaving the block cancels the others.

        `batch` completions share one engine request; at most `width` (default: all) are drawn at once. With a seed they
        come in index order. A failed request is survived as long as another one returns a completion. With `prefix` they
        are n continuations of that completion, in one request (or as many as `width` needs), and hold the prefix;
        `prompt` then names the calls' purpose, and the role is the prefix's. Such completions can be truncated and
        continued. Raises ValueError for n, width or batch below 1 and for a `prefix` with `after` or `values`, and
        CapabilityMissing where the engine cannot continue (`prefix`).
        """

    def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        every: int | None = None,
        **values: Value,
    ) -> AbstractAsyncContextManager[StepStream]:
        """A completion read step by step as it is written; leaving the block aborts it in the engine.

        A step is a paragraph; with `every` it is a text of at least that many tokens. Raises ValueError for `every`
        below 1.
        """

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = "extend",
        index: int | None = None,
        draw: Draw = DEFAULT_DRAW,
        resumable: bool = False,
    ) -> Completion:
        """The completion continued, after `text` was inserted at its end, as one longer completion.

        From its own tokens, with those of the text after them, where the engine returned ids and continues from ids; else
        from text. A completion that was truncated inside its reasoning continues there, and `text` becomes a part of it.
        `purpose` names the call in bills. `index` (default: the completion's) tells continuations of one text apart.
        Without `text` the completion may turn out to be finished: then nothing is added to it. Raises CapabilityMissing
        where the engine cannot continue (`prefix`).
        """

    def extend_steps(
        self, completion: Completion, *, index: int = 0, draw: Draw = DEFAULT_DRAW
    ) -> AbstractAsyncContextManager[StepStream]:
        """The completion continued and read step by step: the steps are those to come, `completion` is the whole.

        Raises CapabilityMissing where the engine cannot continue (`prefix`).
        """

    # -- judging ------------------------------------------------------------------------------------

    async def classify(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> Judgement:
        """Which of the labels is the reply to `prompt`, with their probabilities where the engine returns them.

        Read from the label probabilities of one token, where `draw` and `index` have no effect; else from a reply held to
        a schema; else from text, parsed strictly; `how` says which. A reply that cannot be read is asked for once more.
        How to reply is added to a prompt that does not say it itself. `index` tells samples of one verdict apart. The
        temperature is 0 unless given, and never 0 for a model that reasons. Raises VerdictUnreadable, DegenerateCandidate
        when there is nothing to judge, and ValueError for fewer than two labels or two that begin alike.
        """

    async def critique(
        self,
        prompt: str,
        shape: type[M],
        *,
        after: After = None,
        role: Role = "critic",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> tuple[Completion, M]:
        """A reply in the shape of a pydantic model (see `judging.reply_schemas`), and the completion it was read from.

        Held to the shape by the engine where it can, else parsed strictly and asked for once more. How to reply is
        added to the prompt. Temperature and errors are those of `classify`.
        """

    async def compare(
        self,
        a: Candidate,
        b: Candidate,
        *,
        prompt: str = "prefer",
        role: Role = "judge",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
    ) -> Preference:
        """Which of two candidates answers the question better, asked in both orders at once.

        With label probabilities a win is a sum of log-odds beyond `judgements.MARGIN`, else the same choice in both
        orders; anything less is a tie. `index` tells repeated comparisons of one pair apart. A candidate with nothing to
        judge loses without a call. Raises VerdictUnreadable.
        """

    async def score(
        self,
        subject: Completion | StepStream | Candidate | str,
        *,
        messages: Sequence[Message] | None = None,
    ) -> float:
        """The reward model's score of a text as the last turn of `messages`.

        Without `messages`: of the conversation that a completion answers, else the client's own. Higher is better; the
        scale is the model's (a logit, or a probability for one with two labels), so that only scores of one model can be
        compared. It costs one call and its prompt tokens. Raises RoleMissing where no engine plays `reward`,
        CapabilityMissing where that engine cannot score.
        """

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """The verdict of the task's own tests on a candidate; None where it has none, or they cannot be run.

        No model is asked, and only time is spent. `score` is 1 or 0, and `reasons` the end of the tests' output. The same
        answer is tested once.
        """

    async def class_of(self, candidate: Candidate) -> int | None:
        """The class of a candidate's answer among the answers classed so far, as a small id.

        None for a candidate without an answer, and in open tasks, where no answer equals another.
        """

    # -- many at once -------------------------------------------------------------------------------

    @overload
    async def map(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        width: int | None = None,
        min_results: int = 1,
    ) -> list[R | None]: ...

    @overload
    async def map(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        failed: F,
        width: int | None = None,
        min_results: int = 1,
    ) -> list[R | F]: ...

    async def map(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        failed: Any = None,
        width: int | None = None,
        min_results: int = 1,
    ) -> list[Any]:
        """`work` over all items, at most `width` at once: a result for each item, in item order.

        An item whose calls or verdicts fail, or that does not fit into the budget, is `failed`; failures are counted in
        the outcome's `degraded`. Where fewer than `min_results` items succeeded, so that by default only when all failed,
        it raises BudgetExhausted if the budget kept an item from being done, else the last failure; with 0 never, which
        makes a single item optional: `[grade] = await run.map(work, [item], min_results=0)`. Any other error ends all
        items. Raises ValueError for a width below 1.
        """

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """Results of `work` as they finish (with a seed: in item order); leaving the block cancels the others.

        Items that fail are left out, and counted. Raises as `map` where every item failed, and ValueError for a width
        below 1.
        """

    # -- the answer ---------------------------------------------------------------------------------

    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> AbstractContextManager[Reserve]:
        """Set aside what a closing call will need, so that earlier calls cannot spend it.

        Raises BudgetExhausted when it is not there, and ValueError for `tokens` below 1 or `prompt_tokens` below 0.
        """

    def candidate(
        self,
        completion: Completion | StepStream,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        """The candidate in a completion; a truncated one has an answer only if it had finished one."""

    def propose(self, candidate: Candidate) -> None:
        """Keep the candidate if its score is the highest so far; ties go to the lower index."""

    def elect(self, candidate: Candidate) -> None:
        """Replace the provisional answer, whatever its score."""

    def note(self, about: str, what: str) -> None:
        """Explain something about the answer in the response's `notes`; a later note about the same replaces it."""


class Reserve(Protocol):
    """A part of the budget set aside for one later call of the run: `tokens` completion tokens."""

    tokens: int

    def release(self) -> None:
        """Return it unspent."""
