"""The tree of errors that users and operators meet, each with a stable code.

GoraxError
├── InvalidInput           bad request, definition or configuration of an object; carries every problem
│   └── InvalidDefinition  a workflow definition with at least one error
├── PayloadTooLarge        a body or value above its limit
├── Unauthenticated        no proof of identity, or a bad one
├── Forbidden              the principal lacks the permission
├── NotFound               absent, or another tenant's
├── Conflict               the object's state forbids the act
├── IdempotencyMismatch    the key was used with another body
├── PreconditionFailed     If-Match named a stale version
├── TooManyRequests        a limit of the tenant; says when to come back
├── Unavailable            the database or the engine can't answer now; says when to come back
├── ConfigurationError     a refusal to start: settings, roles, versions, schema (exit 78)
└── DatabaseUnreachable    the database can't be reached at start (exit 69)

`api/problems.py` maps them to HTTP and `cli/main.py` to exit codes; nobody else does.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input: a stable code, where it is (JSON Pointer, RFC 6901) and the mend."""

    code: str
    pointer: str
    message: str


class GoraxError(Exception):
    """Base of all errors that are meant to be read by a user.

    `code` is stable and snake_case; `message` is one sentence that says what is wrong and how to mend it.
    """

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidInput(GoraxError):
    """The input is understood but wrong; `problems` lists every fault."""

    code = "invalid_input"

    def __init__(self, message: str, *, code: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)


class MalformedInput(InvalidInput):
    """The input can't be read at all (not JSON, NUL bytes, lone surrogates, numbers or nesting out of bounds)."""

    code = "malformed_input"


class InvalidDefinition(InvalidInput):
    """A workflow definition that must not be stored; `problems` holds the errors, `warnings` the rest."""

    code = "invalid_definition"

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        count = len(problems)
        super().__init__(
            f"The definition has {count} fault{'s' if count != 1 else ''}; see `errors`.", problems=problems
        )
        self.warnings = tuple(warnings)


class PayloadTooLarge(GoraxError):
    """A body or value is above its limit."""

    code = "payload_too_large"


class Unauthenticated(GoraxError):
    """No proof of identity was given, or it is not valid."""

    code = "unauthenticated"


class Forbidden(GoraxError):
    """The principal is known but lacks the permission."""

    code = "forbidden"


class NotFound(GoraxError):
    """The object is absent; another tenant's object looks the same."""

    code = "not_found"


class Conflict(GoraxError):
    """The object's state forbids the act."""

    code = "conflict"


class IdempotencyMismatch(GoraxError):
    """An idempotency key was used before with another body."""

    code = "idempotency_mismatch"


class PreconditionFailed(GoraxError):
    """If-Match named a version that is no longer current."""

    code = "precondition_failed"


class TooManyRequests(GoraxError):
    """A limit of the tenant is reached; `retry_after` is in seconds."""

    code = "rate_limited"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Unavailable(GoraxError):
    """The database or the engine can't answer now; `retry_after` is in seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class ConfigurationError(GoraxError):
    """A refusal to start, for a reason that a restart alone won't mend (exit code 78)."""

    code = "configuration_error"


class DatabaseUnreachable(GoraxError):
    """The database can't be reached at start (exit code 69)."""

    code = "database_unreachable"
