"""Functions of strings. Positions count characters (Unicode code points)."""

from typing import Final

from gorax_engine.core.expressions.errors import invalid_argument
from gorax_engine.core.expressions.functions.builtin import Builtin, integer, items, text
from gorax_engine.core.expressions.limits import CHARACTERS_PER_UNIT, STRING_CHARACTERS
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import sized_items, sized_text, text_of, too_long
from gorax_engine.core.model import Json


def _read(value: Json, name: str, scope: Scope) -> str:
    string = text(value, name)
    scope.spend(len(string) // CHARACTERS_PER_UNIT + 1)
    return string


def _upper(scope: Scope, value: Json) -> Json:
    return sized_text(_read(value, "upper", scope).upper(), scope)


def _lower(scope: Scope, value: Json) -> Json:
    return sized_text(_read(value, "lower", scope).lower(), scope)


def _trim(scope: Scope, value: Json, characters: Json = None) -> Json:
    string = _read(value, "trim", scope)
    return string.strip() if characters is None else string.strip(text(characters, "trim"))


def _trim_prefix(scope: Scope, value: Json, prefix: Json = " ") -> Json:
    return _read(value, "trimPrefix", scope).removeprefix(text(prefix, "trimPrefix"))


def _trim_suffix(scope: Scope, value: Json, suffix: Json = " ") -> Json:
    return _read(value, "trimSuffix", scope).removesuffix(text(suffix, "trimSuffix"))


def _substr(scope: Scope, value: Json, start: Json, length: Json = None) -> Json:
    string = _read(value, "substr", scope)
    begin = integer(start, "substr")
    if begin < 0:
        raise invalid_argument("The start of `substr` can't be negative; use a slice such as `s[-3:]`.")
    if length is None:
        return string[begin:]
    count = integer(length, "substr")
    if count < 0:
        raise invalid_argument("The length of `substr` can't be negative.")
    return string[begin : begin + count]


def _split(scope: Scope, value: Json, separator: Json, count: Json = -1) -> Json:
    return _parts(scope, value, separator, count, "split")


def _split_after(scope: Scope, value: Json, separator: Json, count: Json = -1) -> Json:
    mark = text(separator, "splitAfter")
    parts = _parts(scope, value, separator, count, "splitAfter")
    return [part + mark for part in parts[:-1]] + parts[-1:] if mark else parts


def _parts(scope: Scope, value: Json, separator: Json, count: Json, name: str) -> list[str]:
    string, mark, limit = _read(value, name, scope), text(separator, name), integer(count, name)
    if limit == 0:
        return []
    pieces = len(string) if not mark else string.count(mark) + 1
    sized_items(pieces if limit < 0 else min(pieces, limit), scope)
    if mark:
        return string.split(mark, limit - 1 if limit > 0 else -1)
    return list(string) if limit < 0 or limit >= pieces else [*string[: limit - 1], string[limit - 1 :]]


def _replace(scope: Scope, value: Json, old: Json, new: Json, count: Json = -1) -> Json:
    string, before, after = _read(value, "replace", scope), text(old, "replace"), text(new, "replace")
    limit = integer(count, "replace")
    found = string.count(before)
    if limit >= 0:
        found = min(found, limit)
    if len(string) + found * (len(after) - len(before)) > STRING_CHARACTERS:
        raise too_long()
    return sized_text(string.replace(before, after, min(limit, found) if limit >= 0 else -1), scope)


def _repeat(scope: Scope, value: Json, count: Json) -> Json:
    string, times = text(value, "repeat"), integer(count, "repeat")
    if times < 0:
        raise invalid_argument("The count of `repeat` can't be negative.")
    if len(string) * times > STRING_CHARACTERS:
        raise too_long()
    return sized_text(string * times if string else "", scope)


def _join(scope: Scope, values: Json, glue: Json = "") -> Json:
    parts, mark = items(values, "join"), text(glue, "join")
    scope.spend(len(parts))
    strings = [text(part, "join") for part in parts]
    if sum(map(len, strings)) + len(mark) * max(0, len(strings) - 1) > STRING_CHARACTERS:
        raise too_long()
    return sized_text(mark.join(strings), scope)


def _concat_text(scope: Scope, *values: Json) -> Json:
    parts = [text_of(value) for value in values]
    if sum(map(len, parts)) > STRING_CHARACTERS:
        raise too_long()
    return sized_text("".join(parts), scope)


def concat(scope: Scope, *values: Json) -> Json:
    """Lists are joined to one list (expr-lang); anything else is written as text and joined (Gorax)."""
    if values and all(type(value) is list for value in values):
        sized_total = sum(map(len, values))
        scope.spend(sized_total)
        return [item for value in values for item in value]
    return _concat_text(scope, *values)


def _index_of(scope: Scope, value: Json, part: Json) -> Json:
    return _read(value, "indexOf", scope).find(text(part, "indexOf"))


def _last_index_of(scope: Scope, value: Json, part: Json) -> Json:
    return _read(value, "lastIndexOf", scope).rfind(text(part, "lastIndexOf"))


def _has_prefix(scope: Scope, value: Json, prefix: Json) -> Json:
    return text(value, "hasPrefix").startswith(text(prefix, "hasPrefix"))


def _has_suffix(scope: Scope, value: Json, suffix: Json) -> Json:
    return text(value, "hasSuffix").endswith(text(suffix, "hasSuffix"))


BUILTINS: Final = (
    Builtin("upper", _upper, "upper(s)", "Upper case.", 1, 1, (('upper("hello")', "HELLO"),)),
    Builtin("lower", _lower, "lower(s)", "Lower case.", 1, 1, (('lower("HELLO")', "hello"),)),
    Builtin("trim", _trim, "trim(s[, characters])", "Without white space, or the given characters, at both ends.", 1, 2,
            (('trim("  a ")', "a"), ('trim("__a_", "_")', "a"))),
    Builtin("trimPrefix", _trim_prefix, "trimPrefix(s, prefix)", "Without the prefix, if it is there.", 1, 2,
            (('trimPrefix("HelloWorld", "Hello")', "World"),)),
    Builtin("trimSuffix", _trim_suffix, "trimSuffix(s, suffix)", "Without the suffix, if it is there.", 1, 2,
            (('trimSuffix("HelloWorld", "World")', "Hello"),)),
    Builtin("substr", _substr, "substr(s, start[, length])", "Part of a string, cut at its end.", 2, 3,
            (('substr("hello", 1, 3)', "ell"), ('substr("hello", 9, 3)', ""), ('substr("hello", 2)', "llo"))),
    Builtin("split", _split, "split(s, separator[, n])", "The parts between separators, at most n.", 2, 3,
            (('split("a,b,c", ",")', ["a", "b", "c"]), ('split("a,b,c", ",", 2)', ["a", "b,c"]))),
    Builtin("splitAfter", _split_after, "splitAfter(s, separator[, n])", "Like `split`, the separators kept.", 2, 3,
            (('splitAfter("a,b,c", ",")', ["a,", "b,", "c"]),)),
    Builtin("replace", _replace, "replace(s, old, new[, n])", "All, or the first n, occurrences replaced.", 3, 4,
            (('replace("a-b-c", "-", "+")', "a+b+c"), ('replace("a-b-c", "-", "+", 1)', "a+b-c"))),
    Builtin("repeat", _repeat, "repeat(s, n)", "The string n times.", 2, 2, (('repeat("Hi", 3)', "HiHiHi"),)),
    Builtin("join", _join, "join(list[, glue])", "A list of strings as one string.", 1, 2,
            (('join(["a", "b"], ",")', "a,b"), ('join(["a", "b"])', "ab"))),
    Builtin("concat", concat, "concat(value, ...)",
            "Lists joined to one list; other values written as text and joined.", 1, None,
            (("concat([1], [2, 3])", [1, 2, 3]), ('concat("a", 1, nil, true)', "a1true"))),
    Builtin("indexOf", _index_of, "indexOf(s, part)", "The first position of a part, or -1.", 2, 2,
            (('indexOf("apple pie", "pie")', 6), ('indexOf("a", "b")', -1))),
    Builtin("lastIndexOf", _last_index_of, "lastIndexOf(s, part)", "The last position of a part, or -1.", 2, 2,
            (('lastIndexOf("a b a", "a")', 4),)),
    Builtin("hasPrefix", _has_prefix, "hasPrefix(s, prefix)", "Whether a string begins so.", 2, 2,
            (('hasPrefix("HelloWorld", "Hello")', True),)),
    Builtin("hasSuffix", _has_suffix, "hasSuffix(s, suffix)", "Whether a string ends so.", 2, 2,
            (('hasSuffix("HelloWorld", "World")', True),)),
)  # fmt: skip
