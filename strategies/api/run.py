"""The Run protocol: the interface that every strategy is written against."""

# ruff: noqa: D417 - the arguments that verbs share are documented once, in `Run`

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar, overload

from pydantic import BaseModel

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.handles import Model, Reserve, StepStream
from secondpass.strategies.api.judgements import Judgement, Preference
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.values import (
    Candidate,
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
"""Sampling options of the client and the operator, unchanged."""

After = Completion | StepStream | Literal["question"] | None
"""Placement of a prompt in a conversation.

A completion: the next turn of its conversation. "question": the last paragraph of the client's question. None: a fresh
conversation.
"""


class Run(Protocol):
    """One execution of a strategy: the question, the verbs, and the best answer so far.

    Every verb draws on the run's budget and deadline, which a strategy need not watch. When a limit or an error ends the
    run, the last proposed or elected candidate is the answer. A strategy may set `stop_reason` to `accepted` or
    `consensus` if it stops early for that reason.

    Arguments that several verbs share:
        prompt: Name of a prompt file without `.txt`, or SOLVE, the client's own conversation.
        role: Role whose engine serves the call.
        after: Placement of the prompt, see `After`.
        index: Position among sibling calls, from 0. Under a seed, it makes their completions differ.
        draw: Sampling options; see `Draw` for the defaults.
        values: Values of the prompt's placeholders. Candidate text is quoted as data and may be several texts, see
            `quoting`.

    Any verb that makes a call may raise BudgetExhausted or an EngineError. A strategy need not catch either.
    """

    stop_reason: StopReason

    @property
    def question(self) -> str:
        """Text of the last user turn; without one, of the last turn with text."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The client's conversation, verbatim."""

    @property
    def task(self) -> Task:
        """Kind of the question, which determines how answers are extracted and compared."""

    @property
    def best(self) -> Candidate:
        """The provisional answer. Raises UnusableCompletion before the first proposal."""

    def model(self, role: Role = "actor") -> Model:
        """Return the model of a role. It exists even if no engine plays the role."""

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
        """Return one completion of a prompt.

        Args:
            visible: Stream the completion to the client.
            resumable: Allow truncation and continuation at any token boundary. A completion that `draw.max_tokens`
                truncates inside its reasoning is then returned.
            schema: JSON Schema that the engine enforces.
            reserved: Budget to spend, from `reserve`.
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
        """Draw `n` completions of one prompt; yield each once finished, under a seed in index order.

        Leaving the block cancels unfinished completions. A failed request is an error only if no request returned a
        completion.

        Args:
            n: Number of completions, at least 1.
            width: Maximum completions drawn concurrently, at least 1; None: all.
            batch: Completions per engine request, at least 1.
            prefix: Completion to continue. The results are `n` continuations of it in one request, or as many requests
                as `width` requires. They contain the prefix and can be truncated and continued. `prompt` then only names
                the purpose of the calls, and the role is that of the prefix.

        Raises:
            ValueError: `n`, `width` or `batch` is below 1, or `prefix` is combined with `after` or `values`.
            CapabilityMissing: The engine does not support `prefix`.
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
        """Stream a completion step by step; leaving the block aborts it in the engine.

        Args:
            every: Minimum tokens of a step, at least 1; None: a step is a paragraph.

        Raises:
            ValueError: `every` is below 1.
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
        """Return the completion with `text` and a continuation appended.

        The engine continues from token ids if it supports that and the ids are known, else from text. A completion
        truncated inside its reasoning continues there, and `text` becomes part of the reasoning. Without `text` the
        continuation may be empty, which means that the completion was already finished.

        Args:
            purpose: Name of the call in the usage record.
            index: Distinguishes continuations of one text; None: the completion's index.

        Raises:
            CapabilityMissing: The engine does not support `prefix`.
        """

    def extend_steps(
        self, completion: Completion, *, index: int = 0, draw: Draw = DEFAULT_DRAW
    ) -> AbstractAsyncContextManager[StepStream]:
        """Continue a completion step by step. Only new steps are counted; `completion` includes the prefix.

        Raises:
            CapabilityMissing: The engine does not support `prefix`.
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
        """Return the label that a judge assigns, with probabilities if the engine returns them.

        The verdict is read from the label probabilities of one token, ignoring `draw` and `index`. An engine without
        them writes a reply constrained by a schema, else free text that is parsed strictly; `Judgement.how` states the
        method. An unreadable reply is retried once. Reply instructions are added unless the prompt contains them. The
        temperature defaults to 0, and is never 0 for a reasoning model.

        Args:
            labels: At least two labels, none a prefix of another, ignoring case and surrounding white space.
            index: Distinguishes repeated samples of one verdict.

        Raises:
            VerdictUnreadable: The retry is unreadable, too, or the label probabilities are.
            DegenerateCandidate: The text to judge is empty, only punctuation, or repetitive.
            ValueError: There are fewer than two labels, or one is a prefix of another.
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
        """Return a critic's reply and the pydantic model that it was parsed into.

        The engine enforces the JSON schema of `shape` (see `judging.reply_schemas`) if it can. The reply is parsed
        strictly, and an unreadable one is retried once. Reply instructions are added to the prompt. Temperature and
        errors are those of `classify`.
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
        """Return the better of two candidates, judged concurrently in both orders.

        With label probabilities, the sum of log-odds over both orders must exceed `judgements.MARGIN`. Otherwise both
        orders must name the same candidate. Any other outcome is a tie. A degenerate candidate loses without a call.

        Args:
            index: Distinguishes repeated comparisons of one pair.

        Raises:
            VerdictUnreadable: A reply is unreadable after its retry.
        """

    async def score(
        self,
        subject: Completion | StepStream | Candidate | str,
        *,
        messages: Sequence[Message] | None = None,
    ) -> float:
        """Return the reward model's score of a text as the last turn of a conversation.

        Higher is better. The scale is the model's: a logit, or a probability for a model with two labels. Only scores of
        one model are comparable. The cost is one call and its prompt tokens.

        Args:
            messages: The conversation; None: that of the completion, else the client's.

        Raises:
            RoleMissing: No engine plays `reward`.
            CapabilityMissing: That engine cannot score.
        """

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """Run the task's tests on a candidate; return None if it has none or they cannot be run.

        No call is made. The verdict's `score` is 1 or 0, and `reasons` is the end of the test output. Each distinct
        answer is tested once. The run itself tests its answer before it ends, so that a strategy need not.
        """

    async def class_of(self, candidate: Candidate) -> int | None:
        """Return the id of the candidate's answer class, a small integer shared by equivalent answers.

        A later answer may merge or split classes. The returned id then compares and hashes as the new one, so that votes read
        the classes of all drafts again; do not keep it as a key across an await.

        None for a candidate without an answer, and in open tasks, whose answers are not comparable.
        """

    # -- concurrency --------------------------------------------------------------------------------

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
        """Apply `work` to all items concurrently and return the results in item order.

        An item fails if one of its calls or verdicts fails or it exceeds the budget. Failures are counted in the
        outcome's `degraded`. Any other error cancels all items. An optional call:
        `[grade] = await run.map(work, [item], min_results=0)`.

        Args:
            failed: Result of a failed item.
            width: Maximum items in progress, at least 1; None: all.
            min_results: Successful items below which `map` raises; 0: never.

        Raises:
            BudgetExhausted: Fewer than `min_results` items succeeded, and the budget excluded an item.
            SecondpassError: Fewer than `min_results` items succeeded: the last failure.
            ValueError: `width` is below 1.
        """

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """Yield results of `work` as they finish, under a seed in item order.

        Leaving the block cancels unfinished items. Failed items are counted and left out. If all fail, it raises as
        `map` does, and ValueError if `width` is below 1.
        """

    # -- the answer ---------------------------------------------------------------------------------

    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> AbstractContextManager[Reserve]:
        """Reserve budget for a closing call, so that earlier calls cannot spend it.

        Raises BudgetExhausted if too little is left, and ValueError if `tokens` < 1 or `prompt_tokens` < 0.
        """

    def candidate(
        self,
        completion: Completion | StepStream,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        """Return the candidate in a completion. A truncated one has an answer only if its answer is finished."""

    def propose(self, candidate: Candidate) -> None:
        """Make the candidate the provisional answer if its score is the highest; ties go to the lower index."""

    def elect(self, candidate: Candidate) -> None:
        """Make the candidate the provisional answer, regardless of its score."""

    def note(self, about: str, what: str) -> None:
        """Add a note to the response's `notes`; a later note about the same subject replaces it."""
