"""Regular expressions of users: RE2 only, which runs in linear time, with bounds on pattern and work."""

import re2

from gorax_engine.core.expressions.errors import INVALID_REGEX, ExpressionError
from gorax_engine.core.expressions.limits import REGEX_CHARACTERS, REGEX_MEMORY, REGEX_STEPS_PER_UNIT
from gorax_engine.core.expressions.scope import Scope


def compile_pattern(pattern: str) -> "re2._Regexp[str]":
    """A compiled pattern (RE2 keeps the last few); raises ExpressionError `invalid_regex`."""
    if len(pattern) > REGEX_CHARACTERS:
        raise ExpressionError(INVALID_REGEX, f"The pattern is longer than {REGEX_CHARACTERS:,} characters.")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = REGEX_MEMORY
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it can't be read"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ExpressionError(INVALID_REGEX, f"`{pattern[:60]}` is not a regular expression: {text[:120]}.") from None


def matches(text: str, pattern: str, scope: Scope) -> bool:
    """Whether the pattern is found anywhere in the text."""
    compiled = compile_pattern(pattern)
    scope.spend(len(text) * compiled.programsize // REGEX_STEPS_PER_UNIT + 1)
    return compiled.search(text) is not None
