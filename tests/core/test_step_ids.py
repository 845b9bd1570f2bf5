"""Ids of step rows: v7, of the execution's time, distinct, and the same today as tomorrow."""

from random import Random
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.model import StepKey
from gorax_engine.core.step_ids import step_id

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
KEYS = st.builds(StepKey, NAMES, NAMES, st.integers(0, 1000))
ATTEMPTS = st.integers(1, 100)
IDS = st.builds(
    lambda time, rest: (time << 80 | rest) & ~(0xF << 76) & ~(3 << 62) | 7 << 76 | 2 << 62,
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**80 - 1),
)
RUN = UUID("019ab5c0-8000-7123-9456-0123456789ab").int


@given(IDS, KEYS, ATTEMPTS)
def test_an_id_is_a_uuid7_of_the_executions_time(execution: int, step: StepKey, attempt: int) -> None:
    written = step_id(execution, step, attempt)
    read = UUID(written)
    assert written == read.hex
    assert (read.version, read.variant) == (7, RFC_4122)
    assert read.bytes[:6] == UUID(int=execution).bytes[:6]
    assert read.int != execution
    assert step_id(execution, step, attempt) == written


@given(st.lists(st.tuples(IDS, KEYS, ATTEMPTS), unique=True, max_size=30))
def test_different_attempts_have_different_ids(attempts: list[tuple[int, StepKey, int]]) -> None:
    assert len({step_id(*attempt) for attempt in attempts}) == len(attempts)


def test_every_part_of_an_attempt_counts() -> None:
    """Also where one part's end could be read as the next one's beginning."""
    keys = [
        StepKey(node, path, round_) for node in ("", "a", "1", "a1") for path in ("", "a", "1") for round_ in (0, 1, 11)
    ]
    ids = {step_id(RUN + run, key, attempt) for run in (0, 1) for key in keys for attempt in (1, 11)}
    assert len(ids) == len(keys) * 4


def test_an_id_never_changes() -> None:
    """Rows that are in the database bear it. Another value here means that old runs can't be resumed."""
    assert step_id(RUN, StepKey("charge"), 1) == "019ab5c0800072ec86ea9db8229adf6b"
    assert step_id(RUN, StepKey("charge", "items[3].charges[0]", 2), 4) == "019ab5c0800074fe866171226aa027b0"


def test_all_free_bits_are_used() -> None:
    """74 bits differ between steps; time, version and variant never."""
    rng = Random(1)
    seen = 0
    for _ in range(200):
        seen |= int(step_id(RUN, StepKey(str(rng.random())), 1), 16) ^ RUN
    assert seen == (0xFFF << 64) | ((1 << 62) - 1)


def test_steps_of_two_executions_differ_as_these_do() -> None:
    one, other = (int(step_id(run, StepKey("a"), 1), 16) for run in (RUN, RUN ^ 0b1010))
    assert one ^ other == 0b1010
