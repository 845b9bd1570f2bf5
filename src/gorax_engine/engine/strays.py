"""Strays: runs that the database gives to this worker and that it knows nothing of.

A claim or a start commits and its answer is lost with the connection. The worker lives on, so nobody would rescue the
run. It is found because the worker compares what it holds by the database with what it runs, and hands the rest back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from uuid import UUID

Request: TypeAlias = Literal["claim", "start", "child"]
Holding: TypeAlias = tuple["UUID", int]
"""A run and the token of its claim."""


class Strays:
    """Tells strays from runs whose claim is just being answered. At most one request of each kind is on its way."""

    def __init__(self) -> None:
        # Odd while a request is on its way.
        self._turns: dict[Request, int] = {"claim": 0, "start": 0, "child": 0}
        self._seen: dict[Holding, dict[Request, int]] = {}

    def asking(self, request: Request) -> None:
        """A request that may give us runs is sent."""
        self._turns[request] += 1

    def answered(self, request: Request) -> None:
        """It was answered, and the runs that it gave are known; or it failed, and its outcome never will be."""
        self._turns[request] += 1

    def look(self, held: Iterable[Holding], known: Container[Holding]) -> list[Holding]:
        """Compare what we hold with what we know; return what is to be handed back.

        Something unknown may be on its way to us. It is a stray if it is still unknown when all requests that were on
        their way as it was first seen are over.
        """
        unknown = [holding for holding in held if holding not in known]
        strays = [holding for holding in unknown if holding in self._seen and self._all_over(self._seen[holding])]
        self._seen = {holding: self._seen.get(holding, dict(self._turns)) for holding in unknown}
        return strays

    def _all_over(self, turns: dict[Request, int]) -> bool:
        return all(turn % 2 == 0 or self._turns[request] != turn for request, turn in turns.items())
