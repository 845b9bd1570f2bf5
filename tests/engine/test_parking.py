"""When a run is looked at again: never too late, also where its patience ends between two looks at the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gorax_engine.engine.parking import CHILD_PATIENCE, PARK_AFTER, Parking

NOW = 1_800_000_000_000_000


def parking() -> Parking:
    """The stay of a run that waits for a child."""

    class Waits(dict[str, Any]):
        open = property(lambda self: self)

    engine = SimpleNamespace(crowded=lambda: False)
    return Parking(
        cast("Any", SimpleNamespace(engine=engine)), cast("Any", Waits(s=SimpleNamespace(kind="sub_workflow")))
    )


@pytest.mark.parametrize("due", [None, NOW + 3600 * PARK_AFTER])
def test_who_may_not_leave_yet_is_looked_at_when_patience_ends(due: int | None) -> None:
    stay = parking()
    assert not stay.may_leave(due, NOW)
    for now in (NOW, NOW + CHILD_PATIENCE - 1):
        assert not stay.may_leave(due, now)
        assert stay.look_again(due, now) == NOW + CHILD_PATIENCE
    assert stay.may_leave(due, NOW + CHILD_PATIENCE)


def test_who_may_not_leave_for_what_is_due_soon_is_looked_at_then() -> None:
    stay = parking()
    assert not stay.may_leave(None, NOW)
    later = NOW + 2 * CHILD_PATIENCE
    assert not stay.may_leave(later + PARK_AFTER, later)
    assert stay.look_again(later + PARK_AFTER, later) == later + PARK_AFTER
