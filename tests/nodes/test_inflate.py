"""Inflating piece by piece: what comes out, and that bombs and damage are found."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.nodes.inflate import Bomb, Corrupt, Inflater


def inflate(encoding: str, data: bytes, step: int = 1 << 16, size: int = 10 << 20) -> bytes:
    inflater = Inflater(encoding, size, 100)
    pieces = [piece for at in range(0, len(data), step) for piece in inflater.feed(data[at : at + step])]
    inflater.finish()
    return b"".join(pieces)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@given(st.binary(max_size=2_000), st.integers(1, 50))
def test_whatever_the_chunks(data: bytes, step: int) -> None:
    assert inflate("gzip", gzip.compress(data), step) == data
    assert inflate("gzip", gzip.compress(data) + gzip.compress(b"more"), step) == data + b"more"
    assert inflate("gzip", gzip.compress(data) + b"\0\0\0", step) == data
    assert inflate("deflate", zlib.compress(data), step) == data
    assert inflate("deflate", raw_deflate(data), step) == data


@given(st.binary(min_size=1, max_size=500), st.data())
def test_an_early_end_is_corrupt(content: bytes, data: st.DataObject) -> None:
    whole = gzip.compress(content)
    with pytest.raises(Corrupt):
        inflate("gzip", whole[: data.draw(st.integers(1, len(whole) - 1))])


def test_no_body_is_no_fault() -> None:
    assert inflate("gzip", b"") == b""


def test_damage_is_corrupt() -> None:
    with pytest.raises(Corrupt):
        inflate("gzip", b"this is not gzip at all")
    with pytest.raises(Corrupt):
        inflate("gzip", gzip.compress(b"x" * 100)[:-8] + b"\0" * 8)


def test_output_beyond_the_last_input_byte_is_not_lost() -> None:
    data = b"a" * (1 << 20)
    assert inflate("gzip", gzip.compress(data), step=1) == data


@pytest.mark.parametrize("layers", [b"\0" * (20 << 20), b"0123456789abcdef" * (1 << 20)])
def test_bombs_are_found_early(layers: bytes) -> None:
    inflater = Inflater("gzip", 10 << 20, 100)
    produced: list[int] = []
    with pytest.raises(Bomb):
        produced.extend(len(piece) for piece in inflater.feed(gzip.compress(layers)))
    assert sum(produced) <= (10 << 20)


def test_size_is_bounded_where_the_ratio_is_harmless() -> None:
    noise = b"".join(n.to_bytes(4, "big") for n in range(1 << 19))
    with pytest.raises(Bomb):
        inflate("gzip", gzip.compress(noise), size=1 << 20)


def test_a_stream_of_empty_members_is_a_bomb() -> None:
    with pytest.raises(Bomb):
        inflate("gzip", gzip.compress(b"") * 1_001)
