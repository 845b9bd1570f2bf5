"""The paths of webhooks: how one is stored, and which can be one."""

import re
from typing import Final

MAX_PATH: Final = 255
PATH_RULE: Final = (
    f"use 1 to {MAX_PATH} characters in non-empty segments, without blanks, `?`, `#`, `%` and dots alone, "
    "and not two UUIDs or `retired-` and a UUID"
)

_PREFIX: Final = "/webhooks/"
_SEGMENTS: Final = re.compile(r"[^\s/?#%\x00-\x1f\x7f]+(?:/[^\s/?#%\x00-\x1f\x7f]+)*")
# The form of the second address of every webhook, /webhooks/{workflow_id}/{webhook_id}: no path may look like it.
_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What stands in place of a path that a webhook has given up.
_RESERVED: Final = re.compile(f"(?:retired|moving)-{_ID}", re.IGNORECASE)
_PAIR_OF_IDS: Final = re.compile(f"{_ID}/{_ID}", re.IGNORECASE)


def normal_path(path: str) -> str:
    """Return a path as it is stored: without `/webhooks/` and without slashes at its ends."""
    return path.removeprefix(_PREFIX).strip("/")


def is_usable(path: str) -> bool:
    """Say whether a normal path can be one of a webhook."""
    return (
        len(path) <= MAX_PATH
        and _SEGMENTS.fullmatch(path) is not None
        and not any(segment in {".", ".."} for segment in path.split("/"))
        and _PAIR_OF_IDS.fullmatch(path) is None
        and _RESERVED.match(path) is None
    )
