"""The exit codes, which scripts hold on to."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CANCELLED: Final = 3
CANNOT_CONNECT: Final = 4
STILL_RUNNING: Final = 5
NO_DATABASE: Final = 69
"""EX_UNAVAILABLE: the database can't be reached at start; trying again may help."""
CONFIGURATION: Final = 78
"""EX_CONFIG: every other refusal to start; trying again won't help."""
INTERRUPTED: Final = 130

_OF_STATUS: Final = {"completed": OK, "failed": FAILED, "cancelled": CANCELLED}
ENDED: Final = frozenset(_OF_STATUS)
"""The statuses that are final."""


def of_status(status: str) -> int:
    """Return the exit code that tells how an execution stands."""
    return _OF_STATUS.get(status, STILL_RUNNING)
