"""Splitting a source into tokens, among them the names with hyphens that Gorax users write.

A name after a dot may hold hyphens in two cases, always without spaces around them:

- Directly after `steps.`, `credentials.` or a member `headers.` the longest run of name characters and hyphens is one
  name: `steps.http-1.body`. Where the ids of the steps are known, the longest prefix that is one of them is taken.
- After any other dot, where the roots are known, `-part` goes on the name if `part` starts with a letter and is neither
  a root nor a variable: `trigger.body.first-name` is one key, `item.total-vars.fee` a subtraction.
"""

import re
from typing import Final

from lark import Token

from gorax_engine.core.expressions.errors import ExpressionSyntaxError
from gorax_engine.core.expressions.limits import INTEGER_DIGITS, SOURCE_CHARACTERS
from gorax_engine.core.expressions.operators import BINARY, NEGATABLE, SPELLINGS

HYPHENATED_ROOTS: Final = frozenset({"steps", "credentials"})
"""Roots whose members may be named with hyphens."""

_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|(?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?"
)
_NAME = re.compile(r"[^\W\d]\w*")
_MEMBER = re.compile(r"(?:\w|\\\.)+")
_LONG_MEMBER = re.compile(r"(?:\w|\\\.)+(?:-+(?:\w|\\\.)+)*")
_CONTINUED = re.compile(r"-([^\W\d]\w*)")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', re.DOTALL)
_RAW_STRING = re.compile(r"`[^`]*`")
_SYMBOL = re.compile(r"\?\?|\?\.(?![0-9])|\*\*|\.\.|==|!=|<=|>=|&&|\|\||[-+*/%^<>!?:.,;|=#()\[\]{}]")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"`/])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_KINDS: Final = {
    "(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", "{": "LBRACE", "}": "RBRACE", ",": "COMMA", ":": "COLON",
    ";": "SEMICOLON", "?": "QUESTION", ".": "DOT", "?.": "OPTIONAL_DOT", "=": "ASSIGN", "|": "PIPE", "!": "NOT",
    "+": "SIGN", "-": "SIGN", "let": "LET", "if": "IF", "else": "ELSE",
}  # fmt: skip
_CONSTANTS: Final = {"true": True, "false": False, "nil": None, "null": None}
_OPERAND_ENDS: Final = frozenset(
    {"NUMBER", "STRING", "NAME", "MEMBER", "CONSTANT", "POINTER", "RPAR", "RSQB", "RBRACE"}
)


def tokenize(
    source: str, start: int, known_roots: frozenset[str] | None = None, known_steps: frozenset[str] | None = None
) -> list[Token]:
    """The tokens of `source` from `start` on, each with its decoded value and offset; raises ExpressionSyntaxError."""
    if len(source) - start > SOURCE_CHARACTERS:
        raise ExpressionSyntaxError(
            f"The expression is longer than {SOURCE_CHARACTERS:,} characters; move part of it into a step of its own.",
            start,
        )
    return _Lexer(source, start, known_roots, known_steps).run()


class _Lexer:
    def __init__(
        self, source: str, start: int, known_roots: frozenset[str] | None, known_steps: frozenset[str] | None
    ) -> None:
        self.source = source
        self.roots = known_roots
        self.steps = known_steps
        self.variables: set[str] = set()
        self.tokens: list[Token] = []
        self.position = start

    def run(self) -> list[Token]:
        source = self.source
        while True:
            space = _SPACE.match(source, self.position)
            if space is not None:
                self.position = space.end()
            if self.position >= len(source):
                return self.tokens
            self._next()

    def _next(self) -> None:
        source, start = self.source, self.position
        kind = self.tokens[-1].type if self.tokens else ""
        character = source[start]
        if kind in ("DOT", "OPTIONAL_DOT") and (character.isalnum() or character in "_\\"):
            self._member()
        elif "0" <= character <= "9" or (
            character == "." and kind not in _OPERAND_ENDS and "0" <= source[start + 1 : start + 2] <= "9"
        ):
            self._number()
        elif character in "\"'`":
            self._string(character)
        elif match := _NAME.match(source, start):
            self._word(match[0])
        elif source.startswith("/*", start):
            raise ExpressionSyntaxError(f"The comment at character {start + 1} has no end `*/`.", start)
        elif match := _SYMBOL.match(source, start):
            self._symbol(match[0])
        else:
            raise ExpressionSyntaxError(f"Unexpected character {character!r} at character {start + 1}.", start)

    def _emit(self, kind: str, text: str, value: object) -> None:
        token = Token(kind, text, start_pos=self.position)
        token.value = value
        self.tokens.append(token)
        self.position += len(text)

    def _symbol(self, text: str) -> None:
        if text == "#":
            match = _NAME.match(self.source, self.position + 1)
            name = match[0] if match is not None else ""
            self._emit("POINTER", "#" + name, name)
        elif text in _KINDS:
            self._emit(_KINDS[text], text, text)
        else:
            self._emit("BINARY", text, SPELLINGS.get(text, text))

    def _word(self, text: str) -> None:
        value = SPELLINGS.get(text, text)
        if text in _CONSTANTS:
            self._emit("CONSTANT", text, _CONSTANTS[text])
        elif text == "not":
            space = _SPACE.match(self.source, self.position + 3)
            word = _NAME.match(self.source, space.end()) if space is not None else None
            if word is not None and SPELLINGS.get(word[0], word[0]) in NEGATABLE:
                self._emit("BINARY", self.source[self.position : word.end()], "not " + SPELLINGS.get(word[0], word[0]))
            else:
                self._emit("NOT", text, "!")
        elif text in _KINDS:
            self._emit(_KINDS[text], text, text)
        elif value in BINARY:
            self._emit("BINARY", text, value)
        else:
            if self.tokens and self.tokens[-1].type == "LET":
                self.variables.add(text)
            self._emit("NAME", text, text)

    def _member(self) -> None:
        owner = self.tokens[-2] if len(self.tokens) > 1 else None
        name = owner.value if owner is not None and owner.type in ("NAME", "MEMBER") else ""
        is_root = owner is not None and owner.type == "NAME" and name not in self.variables
        if (is_root and name in HYPHENATED_ROOTS) or name == "headers":
            text = self._longest_known(is_root and name == "steps")
        else:
            text = self._continued()
        if not text:
            start = self.position
            raise ExpressionSyntaxError(f"Unexpected character {self.source[start]!r} at character {start + 1}.", start)
        self._emit("MEMBER", text, text.replace("\\.", "."))

    def _longest_known(self, of_step: bool) -> str:
        match = _LONG_MEMBER.match(self.source, self.position)
        text = match[0] if match is not None else ""
        if of_step and self.steps is not None:
            candidate = text
            while candidate:
                if candidate.replace("\\.", ".") in self.steps:
                    return candidate
                candidate = candidate.rpartition("-")[0]
        return text

    def _continued(self) -> str:
        match = _MEMBER.match(self.source, self.position)
        if match is None:
            return ""
        end = match.end()
        while self.roots is not None:
            part = _CONTINUED.match(self.source, end)
            if part is None or part[1] in self.roots or part[1] in self.variables or part[1] in _CONSTANTS:
                break
            if self.source.startswith("(", part.end()):
                break
            end = part.end()
        return self.source[self.position : end]

    def _number(self) -> None:
        start = self.position
        match = _NUMBER.match(self.source, start)
        text = match[0] if match is not None else self.source[start]
        after = self.source[start + len(text) : start + len(text) + 1]
        if after.isalnum() or after == "_":
            raise ExpressionSyntaxError(f"Bad number `{text[:20]}{after}` at character {start + 1}.", start)
        self._emit("NUMBER", text, _number_value(text, start))

    def _string(self, quote: str) -> None:
        start = self.position
        match = (_RAW_STRING if quote == "`" else _STRING).match(self.source, start)
        if match is None:
            raise ExpressionSyntaxError(f"The string at character {start + 1} has no end {quote}.", start)
        text = match[0]
        value = text[1:-1] if quote == "`" else _unescape(text[1:-1], start + 1)
        check_text(value, start)
        self._emit("STRING", text, value)


def check_text(value: str, position: int) -> None:
    """Refuse text that JSON in Postgres can't hold: NUL and lone surrogates."""
    if "\0" in value:
        raise ExpressionSyntaxError(f"The text at character {position + 1} has a NUL character.", position)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ExpressionSyntaxError(
            f"The text at character {position + 1} has a lone surrogate, which is no character.", position
        ) from None


def _number_value(text: str, position: int) -> int | float:
    digits = text.replace("_", "")
    prefix = digits[:2].lower()
    try:
        if prefix in ("0x", "0o", "0b"):
            value = int(digits, 0)
            if value.bit_length() > 4 * INTEGER_DIGITS:
                raise ValueError
            return value
        if any(mark in digits for mark in ".eE"):
            number = float(digits)
            if number - number != 0.0:
                raise ValueError
            return number
        if len(digits) > INTEGER_DIGITS:
            raise ValueError
        return int(digits)
    except ValueError:
        raise ExpressionSyntaxError(
            f"Bad number `{text[:20]}` at character {position + 1}: it is malformed or too large.", position
        ) from None


def _unescape(body: str, position: int) -> str:
    if "\\" not in body:
        return body

    def replacement(match: re.Match[str]) -> str:
        simple, octal, byte, short, long, bad = match.groups()
        if simple is not None:
            return _SIMPLE_ESCAPES.get(simple, simple)
        if bad is None:
            code = int(octal, 8) if octal is not None else int(byte or short or long, 16)
            if code <= 0x10FFFF:
                return chr(code)
        at = position + match.start()
        raise ExpressionSyntaxError(f"Bad escape `{match[0]}` at character {at + 1}.", at)

    text = _ESCAPE.sub(replacement, body)
    # Two escaped surrogates make one character, as in JSON.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_pair(text) else text


def _has_pair(text: str) -> bool:
    return re.search("[\ud800-\udbff][\udc00-\udfff]", text) is not None
