"""Ids of step rows, derived from what they record, so that a record that is sent twice is the same row."""

from functools import lru_cache
from hashlib import blake2b

from gorax_engine.core.model import StepKey


def step_id(execution: int, step: StepKey, attempt: int) -> str:
    """Return the id of one attempt of a step, as 32 hexadecimal digits: a UUIDv7 (RFC 9562, 5.7).

    `execution` is the execution's id as a number. The step's id keeps its first 48 bits, the time, so that both lie in
    the same month's partition and near each other in the index; the 74 bits that are random in the execution's id are
    mixed with a hash of node, iteration path, round and attempt, so that they stay random and differ between steps.
    """
    return f"{execution ^ _mark(step, attempt):032x}"


@lru_cache(maxsize=65_536)
def _mark(step: StepKey, attempt: int) -> int:
    """The 74 bits of an attempt at their places in a UUID; those of time, version and variant are zero."""
    name = f"{attempt}\0{step.round}\0{step.path}\0{step.node}".encode()
    digest = int.from_bytes(blake2b(name, digest_size=10).digest(), "big")
    high, low = (digest >> 62) & 0xFFF, digest & ((1 << 62) - 1)
    return (high << 64) | low
