"""Inflating a response body piece by piece, so that a bomb is found out before it has grown."""

import zlib
from collections.abc import Iterator
from typing import Final

_PIECE: Final = 256 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_MEMBERS: Final = 1000
"""Each gzip member costs a fresh inflater of some 40 kB; a stream of empty ones would cost seconds."""
_RATIO_FLOOR: Final = 1 << 20
"""Below this size the ratio isn't looked at: small regular documents compress better than 100:1."""


class Bomb(Exception):
    """The body is larger than allowed, or grew by more than the allowed ratio."""


class Corrupt(Exception):
    """The body is not what its Content-Encoding says, or ends early."""


class Inflater:
    """Inflates one body of encoding `gzip` or `deflate` (with or without the zlib header).

    `max_size` is in bytes, `max_ratio` is inflated bytes per byte on the wire. Raises Bomb and Corrupt.
    """

    def __init__(self, encoding: str, max_size: int, max_ratio: int) -> None:
        self._gzip = encoding == "gzip"
        self._max_size = max_size
        self._max_ratio = max_ratio
        self._stream: zlib._Decompress | None = None
        self._pending = b""
        self._wire = self._size = self._members = 0
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes from the wire and give inflated pieces of at most 256 KiB; must be drained."""
        self._wire += len(data)
        data = self._pending + data
        self._pending = b""
        piece = b""
        while (data or len(piece) == _PIECE) and not self._ended:
            if self._stream is None:
                if len(data) < len(_GZIP_MAGIC):
                    self._pending = data
                    return
                self._stream = self._start(data)
                if self._stream is None:
                    return
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error as error:
                raise Corrupt(str(error)) from None
            self._account(len(piece))
            if piece:
                yield piece
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data, piece, self._stream = self._stream.unused_data, b"", None
                self._ended = not self._gzip

    def finish(self) -> None:
        """Raise Corrupt if the body ends in the middle of its stream."""
        if self._stream is not None or (self._wire and not self._members):
            raise Corrupt("it ends early")

    def _start(self, data: bytes) -> "zlib._Decompress | None":
        """Return an inflater for what begins here, or None if it is padding after the last member."""
        if self._members and not data.startswith(_GZIP_MAGIC):
            self._ended = True
            return None
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise Bomb
        if self._gzip:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        has_header = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _account(self, size: int) -> None:
        self._size += size
        if self._size > self._max_size or self._size > max(_RATIO_FLOOR, self._wire * self._max_ratio):
            raise Bomb
