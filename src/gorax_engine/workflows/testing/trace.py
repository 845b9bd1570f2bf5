"""What a simulated run did: every attempt of every step, in the order in which they began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gorax_engine.core.states import StepState

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json, StepError, StepKey


@dataclass(slots=True)
class Attempt:
    """One attempt of a step, as the engine would record it. `given` is its config as rendered."""

    step: StepKey
    number: int
    type: str
    state: StepState
    given: Json = None
    output: Json = None
    outcome: str | None = None
    error: StepError | None = None
    started: Instant | None = None
    ended: Instant | None = None
    mocked: bool = False

    @property
    def place(self) -> str:
        """Where it ran, as test files name it: the node's id, after its iteration path."""
        return place_of(self.step)

    @property
    def ran(self) -> bool:
        """Did it begin?"""
        return self.state is not StepState.SKIPPED


@dataclass(slots=True)
class Trace:
    """All attempts of a run."""

    attempts: dict[tuple[StepKey, int], Attempt] = field(default_factory=dict)

    def at(self, place: str) -> list[Attempt]:
        """Return the attempts at a place, with those of all rounds of retry scopes around it."""
        return [attempt for attempt in self.attempts.values() if attempt.place == place]

    def places(self) -> Iterator[str]:
        """Yield where steps ran, each place once, in the order in which they began."""
        yield from dict.fromkeys(attempt.place for attempt in self.attempts.values() if attempt.ran)

    def places_of(self, node: str) -> list[str]:
        """Return where a node ran."""
        return [place for place in self.places() if node_of(place) == node]


def place_of(step: StepKey) -> str:
    """Return the name of a place: `notify`, or `items[0].notify` in a scope with a path of its own."""
    return f"{step.path}.{step.node}" if step.path else step.node


def node_of(place: str) -> str:
    """Return the node that a place names; ids have no dots."""
    return place.rpartition(".")[2]
