"""Runs whose claim was committed and whose answer was lost."""

import uuid

from gorax_engine.engine.strays import Strays

LOST = (uuid.UUID(int=1), 1)
KNOWN = (uuid.UUID(int=2), 7)


def test_what_is_known_is_no_stray() -> None:
    strays = Strays()
    assert strays.look([KNOWN], {KNOWN}) == []
    assert strays.look([KNOWN], {KNOWN}) == []


def test_a_lost_answer_is_found_at_the_second_look() -> None:
    strays = Strays()
    strays.asking("claim")
    strays.answered("claim")  # by a broken connection
    assert strays.look([LOST], set()) == []
    assert strays.look([LOST, KNOWN], {KNOWN}) == [LOST]


def test_what_is_still_on_its_way_is_left_alone() -> None:
    strays = Strays()
    strays.asking("start")
    for _ in range(3):
        assert strays.look([LOST], set()) == []
    strays.answered("start")
    assert strays.look([LOST], {LOST}) == []


def test_a_later_request_does_not_hide_a_stray() -> None:
    strays = Strays()
    strays.asking("claim")
    assert strays.look([LOST], set()) == []
    strays.answered("claim")
    strays.asking("claim")
    assert strays.look([LOST], set()) == [LOST]


def test_a_new_token_is_a_new_matter() -> None:
    strays = Strays()
    assert strays.look([LOST], set()) == []
    strays.asking("claim")
    assert strays.look([(LOST[0], 2)], set()) == []
