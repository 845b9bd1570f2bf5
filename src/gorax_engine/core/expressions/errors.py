"""The two ways an expression fails: it can't be read (on save), or it can't be evaluated (at run time)."""

from gorax_engine.errors import GoraxError, InvalidInput

MISSING_PATH = "missing_path"
TYPE_ERROR = "type_error"
LIMIT_EXCEEDED = "limit_exceeded"
INVALID_ARGUMENT = "invalid_argument"
DIVISION_BY_ZERO = "division_by_zero"
INVALID_REGEX = "invalid_regex"


class ExpressionSyntaxError(InvalidInput):
    """The source is not an expression of the language. `position` is the offset of the fault in characters."""

    code = "invalid_expression"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class ExpressionError(GoraxError):
    """The evaluation failed; `code` is one of this module's constants, `path` the missing path where there is one."""

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(message, code=code)
        self.path = path


def type_error(message: str) -> ExpressionError:
    """A value has the wrong type for what is done with it."""
    return ExpressionError(TYPE_ERROR, message)


def invalid_argument(message: str) -> ExpressionError:
    """A value has the right type, but can't be used."""
    return ExpressionError(INVALID_ARGUMENT, message)


def limit_exceeded(message: str) -> ExpressionError:
    """A budget of work, size or depth is spent."""
    return ExpressionError(LIMIT_EXCEEDED, message)
