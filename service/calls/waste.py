"""Which of the completion tokens that a run was delivered are used."""

from __future__ import annotations

from secondpass.strategies.api.values import Completion, Role


class Waste:
    """The completion tokens of a run, by the stream that delivered them, and which of them are used."""

    def open(self, role: Role) -> int:
        """A source: one completion of one attempt of a call of `role`."""
        raise NotImplementedError

    def deliver(self, source: int, tokens: int) -> None:
        """So many tokens were delivered by a source."""
        raise NotImplementedError

    def keep(self, completion: Completion) -> None:
        """The tokens of these segments are used: a later call continues from them, or a candidate is made of them."""
        raise NotImplementedError

    def drop(self, completion: Completion) -> None:
        """The completion was handed over but not read as a whole: only what is kept of it is used."""
        raise NotImplementedError

    def wasted(self) -> dict[Role, int]:
        """Completion tokens that were delivered and are not used, by role."""
        raise NotImplementedError
