"""The id that finds a request again in logs and answers: the client's own if it is harmless, else a new one."""

import re
from typing import Final
from uuid import uuid4

from starlette.types import Scope

HEADER: Final = "X-Request-Id"

_WANTED: Final = HEADER.lower().encode()
_HARMLESS: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_of(scope: Scope) -> str:
    """Return the client's X-Request-Id if it is at most 128 harmless characters, else a new id."""
    for name, value in scope["headers"]:
        if name == _WANTED and _HARMLESS.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex
