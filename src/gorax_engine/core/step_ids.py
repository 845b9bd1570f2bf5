"""Ids of step rows, derived from what they record, so that a record that is sent twice is the same row."""

from hashlib import blake2b

from gorax_engine.core.model import StepKey


def step_id(execution_id: bytes, step: StepKey, attempt: int) -> bytes:
    """Return the 16 bytes of the UUIDv7 of one attempt of a step.

    The first 48 bits are the execution's own time, so that both lie in the same month's partition and next to each
    other in the index; the other 74 are a hash of execution, node, iteration path, round and attempt (RFC 9562, 5.7).
    """
    node, path, round_ = step
    name = f"{attempt}\0{round_}\0{path}\0{node}".encode()
    digest = bytearray(blake2b(name, digest_size=10, key=execution_id).digest())
    digest[0] = (digest[0] & 0x0F) | 0x70
    digest[2] = (digest[2] & 0x3F) | 0x80
    return execution_id[:6] + bytes(digest)
