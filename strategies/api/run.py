"""The Run protocol: everything that a strategy sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import GradeKind, Measured
from secondpass.strategies.api.judgements import Judgement, Preference
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.values import (
    Candidate,
    Capability,
    Completion,
    LabelRead,
    Message,
    Role,
    StopReason,
    Verdict,
)

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)


class Draft(Protocol):
    """A completion while it is being written: iterate it for its steps, in order, each once finished."""

    @property
    def completion(self) -> Completion:
        """What has been written so far."""

    def cut(self, steps: int) -> Completion:
        """What was written up to the end of the first `steps` steps that were given, to judge it or to go on from there.

        It is cut between two tokens where these lie between two steps; else what follows the last token before the cut
        is held as text. Raises ValueError for more steps than were given.
        """

    def __aiter__(self) -> AsyncIterator[str]: ...


After = Completion | Draft | Literal["question"] | None
"""Where a prompt is said: as a further turn of a completion's conversation; "question": as the last paragraph of the
client's own question; None: in a fresh conversation."""


class Run(Protocol):
    """All that a strategy sees: the question, the verbs, and the best answer so far.

    Every verb draws on the run's budget and deadline. A strategy need not watch either: what it proposed or
    elected is the answer when one of them ends the run. `stop_reason` may be set by a strategy that knows why it
    stops early (`accepted`, `consensus`).
    """

    stop_reason: StopReason

    @property
    def question(self) -> str:
        """The text of the last user turn."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The client's conversation, verbatim."""

    @property
    def task(self) -> Task: ...

    @property
    def best(self) -> Candidate:
        """The provisional answer. Raises UnusableCompletion while there is none."""

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        visible: bool = False,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        logprobs: int | None = None,
        reserved: Reserve | None = None,
        **values: Value,
    ) -> Completion:
        """One completion of `prompt` (a file's name, filled with `values`, or SOLVE).

        `after` says in which conversation. Values of placeholders for candidate text (see `quoting`) are quoted as
        data, in every verb; such a value may be several texts. `reserved` spends what `reserve` set aside.
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
        temperature: float | None = None,
        logprobs: int | None = None,
        **values: Value,
    ) -> AbstractAsyncContextManager[AsyncIterator[Completion]]:
        """`n` completions of one prompt, each as soon as it is finished; leaving the block cancels the rest.

        `batch` completions share one engine request; at most `width` (default: all) are drawn at once. With a
        seed they come in index order. A failed request is survived as long as another one gives a completion.
        `logprobs` asks for log probabilities and confidences, see `Delta`.
        """

    async def begin(
        self,
        *,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
    ) -> Completion:
        """A first part of a reply to the client: as `ask` for SOLVE, but to be gone on with from any of its `ends`.

        It is given also when `max_tokens` cut it inside its thoughts.
        """

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = "extend",
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
        resumable: bool = False,
    ) -> Completion:
        """The completion continued, after `text` was appended to it, as one longer completion.

        From its own tokens, where the engine told them and goes on from tokens, with the text's after them; else from
        text. Of a completion that was cut inside its thoughts the thoughts go on, and `text` is one of them. `purpose`
        names the call in bills. A `resumable` one has its `ends`, as one that `begin` gives. Without `text` it may turn
        out that the completion was finished already: nothing is added to it then.
        """

    def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        temperature: float | None = None,
        logprobs: int | None = None,
        every: int | None = None,
        **values: Value,
    ) -> AbstractAsyncContextManager[Draft]:
        """A completion seen step by step as it is written; leaving the block aborts it in the engine.

        With `every` its pieces are not steps but of at least that many tokens. `logprobs` as in `sample`.
        """

    def extend_steps(
        self, completion: Completion, *, index: int = 0, temperature: float | None = None
    ) -> AbstractAsyncContextManager[Draft]:
        """The completion (a draft that was `cut`, say) continued, seen step by step: its steps are those to come.

        The draft's completion is the whole of it. `index` tells continuations of one text apart. Raises
        CapabilityMissing where the engine cannot continue (`prefix`).
        """

    async def probe(
        self,
        completion: Completion | Draft,
        prompt: str,
        labels: Sequence[str],
        *,
        role: Role = "actor",
        **values: Value,
    ) -> LabelRead:
        """How probable each label is as the reply to `prompt`, asked as a further turn after `completion`."""

    async def labels(
        self, prompt: str, labels: Sequence[str], *, role: Role = "judge", **values: Value
    ) -> LabelRead:
        """How probable each label is as the reply to `prompt` in a fresh conversation."""

    async def reward(
        self, completion: Completion | Draft | str, *, messages: Sequence[Message] | None = None
    ) -> float:
        """What the reward model thinks of a completion, or of any text, as the last turn of `messages`.

        Without `messages`: of the conversation that the completion answers, or for a text the client's own. Higher is
        better; the scale is the model's (a logit, or a probability for one with two labels), so that rewards of one
        model are compared and nothing else. It costs one call and its prompt tokens. Raises RoleMissing where no
        engine plays `reward`, CapabilityMissing where the one that does cannot score.
        """

    async def judge(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> Judgement:
        """Which of the labels is the reply to `prompt`, by the best means that the role's engine has.

        Label probabilities; else a reply held to a schema; else text, parsed strictly and asked for once more if it
        cannot be read. How to reply is added to the prompt, which need not name the labels. `index` tells samples of
        one verdict apart. `temperature` is 0 unless given, and never for a model that thinks. Raises VerdictUnreadable,
        and DegenerateCandidate when what is to be judged says nothing.
        """

    async def critique(
        self,
        prompt: str,
        shape: type[M],
        *,
        after: After = None,
        role: Role = "critic",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> tuple[Completion, M]:
        """A reply in the shape of a pydantic model (see `judging.reply_schemas`), and the completion that it was read from.

        Held to the shape by the engine where it can, else parsed strictly and asked for once more. How to reply is
        added to the prompt. The completion can be gone on with (`ask(..., after=...)`). Temperature and errors are
        those of `judge`.
        """

    async def prefer(
        self, a: Candidate, b: Candidate, *, prompt: str = "prefer", role: Role = "judge"
    ) -> Preference:
        """Which of two candidates answers the question better, asked in both orders at once.

        With label probabilities a win is a sum of log-odds beyond `judgements.MARGIN`, else the same choice in both
        orders; anything less is a tie. A candidate that says nothing loses without a call. Raises VerdictUnreadable.
        """

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """What the task's own tests say of a candidate; None where it has none, or where they cannot be run.

        No model is asked, and nothing is spent but time. `score` is 1 or 0, and `reasons` the end of what the tests said
        and the code printed. The same answer is tested once.
        """

    def require(self, role: Role, *capabilities: Capability) -> None:
        """Make sure, before anything is spent, that the role can do this. Raises RoleMissing and CapabilityMissing."""

    def profile(self, role: Role) -> Profile:
        """What is particular to the model of a role. Raises RoleMissing."""

    def usual_length(self, role: Role = "actor") -> int | None:
        """Tokens of half of this model's answers, thoughts included, in any strategy; None until a few were seen.

        None under a seed too: what other requests brought must not decide what a repeatable one does.
        """

    def calibration(self, role: Role, kind: GradeKind = "solution") -> Measured | None:
        """What was measured of the grades that the role's model gives its own drafts; None when nothing was."""

    def trust(
        self, role: Role = "judge", *, kind: GradeKind = "solution", always: bool = False
    ) -> float:
        """How far votes may be weighted by this role's grades of a kind: 0 (not at all) or 1, as its calibration says.

        Where these are not calibrated, or have an AUROC below 0.6, the answer is 0 and a note says so; `always` (somebody
        asked for weights whatever was measured) makes it 1.
        """

    def note(self, about: str, what: str) -> None:
        """Say something of how the answer came about in the response's `notes`; the last word on a thing stands."""

    async def same(self, a: str, b: str) -> bool:
        """Are two answers of this task equivalent?"""

    async def class_of(self, candidate: Candidate) -> int | None:
        """The class of a candidate's answer among the answers classed so far, as a small id.

        None for a candidate without an answer, and in open tasks, where no answer equals another.
        """

    async def map(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> list[R]:
        """`work` over all items, in item order; failed items are left out and counted as degraded.

        Raises the last failure where every item failed.
        """

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """Results of `work` as they finish (with a seed: in item order); leaving the block cancels the rest."""

    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> AbstractContextManager[Reserve]:
        """Set aside what a closing call will need, so that earlier calls cannot spend it.

        Raises BudgetExhausted when it is not there.
        """

    def candidate(
        self,
        completion: Completion | Draft,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        """The candidate that a completion holds; a cut one has an answer only if it had finished one."""

    def propose(self, candidate: Candidate) -> None:
        """Keep the candidate if its score is the highest so far; ties go to the earlier one."""

    def elect(self, candidate: Candidate) -> None:
        """Replace the provisional answer, whatever its score."""


class Reserve(Protocol):
    """A part of the budget set aside for one later call of the run: `tokens` completion tokens."""

    tokens: int

    def release(self) -> None:
        """Give it back unspent."""
