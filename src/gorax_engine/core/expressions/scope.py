"""What an expression may see while it runs, and what it may still spend."""

from collections.abc import Mapping
from typing import Self

from gorax_engine.core.expressions.errors import limit_exceeded
from gorax_engine.core.expressions.limits import WORK
from gorax_engine.core.model import Instant, Json, Missing


class Scope:
    """The values that expressions read: cheap to build, never changed by an evaluation except for its budget.

    `roots` maps names (`trigger`, `steps`, `env`, `vars`, `credentials`, loop variables) to values; `steps` maps node
    ids to the outputs of the steps that ended. `now` is what `now()` gives. `seed` makes `random()` repeatable.
    `skipped` names steps that were skipped, for better messages only.
    """

    __slots__ = ("draws", "missing", "now", "roots", "seed", "skipped", "work")

    def __init__(
        self,
        roots: Mapping[str, Json],
        now: Instant,
        missing: Missing = Missing.ERROR,
        seed: bytes = b"",
        skipped: frozenset[str] = frozenset(),
    ) -> None:
        self.roots = roots
        self.now = now
        self.missing = missing
        self.seed = seed
        self.skipped = skipped
        self.work = WORK
        self.draws = 0

    def child(self, locals: Mapping[str, Json]) -> Self:
        """A scope that also has `locals`, which hide roots of the same name."""
        return type(self)({**self.roots, **locals}, self.now, self.missing, self.seed, self.skipped)

    def spend(self, units: int) -> None:
        """Pay for work; raises ExpressionError `limit_exceeded` when the budget is gone."""
        self.work -= units
        if self.work < 0:
            raise limit_exceeded(
                f"The expression takes more than {WORK:,} units of work; make it or its input smaller."
            )
