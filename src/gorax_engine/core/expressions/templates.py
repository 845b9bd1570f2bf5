"""Templates: text with `{{ expression }}` or `${ expression }` in it. A value is rendered once and never read again."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from gorax_engine.core.expressions.access import Evaluator
from gorax_engine.core.expressions.compiler import Reference
from gorax_engine.core.expressions.errors import ExpressionSyntaxError
from gorax_engine.core.expressions.expression import Expression, check_source, compile_part
from gorax_engine.core.expressions.marks import MARK, end_of_template
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import sized_text, text_of
from gorax_engine.core.model import Json


def is_template(source: str) -> bool:
    """Whether a string has a template in it, or an escaped one that must lose its backslash."""
    return "{{" in source or "${" in source


def compile_template(
    source: str,
    *,
    url: bool = False,
    known_roots: frozenset[str] | None = None,
    known_steps: frozenset[str] | None = None,
) -> Expression:
    """Compile a string with templates in it; a string that is one whole template keeps the type of its value.

    In the text around others null is nothing, and lists and objects are compact JSON. With `url`, values in the path
    or the query are percent-encoded. `known_roots` and `known_steps` are as in `compile_expression`. Raises
    ExpressionSyntaxError.
    """
    check_source(source)
    pieces: list[str | Evaluator] = []
    references: dict[Reference, None] = {}
    slots, builds, at = 0, False, 0
    for start, body_start, body_end, end in _templates(source):
        if start > at:
            pieces.append(_literal(source[at:start]))
        compiler, run = compile_part(source[:body_end], body_start, known_roots, known_steps)
        pieces.append(run)
        references.update(compiler.references)
        slots, builds = max(slots, compiler.slots), builds or compiler.builds
        at = end
    if at < len(source):
        pieces.append(_literal(source[at:]))
    if len(pieces) == 1 and not isinstance(pieces[0], str):
        return Expression(source, pieces[0], slots, builds, tuple(references))
    return Expression(source, _text(pieces, url), slots, False, tuple(references))


def _literal(text: str) -> str:
    return MARK.sub(lambda match: match[0].removeprefix("\\"), text)


def _templates(source: str) -> list[tuple[int, int, int, int]]:
    """Start, start and end of the expression, and end of every template."""
    found = []
    at = 0
    while match := MARK.search(source, at):
        at = match.end()
        if match[0].startswith("\\"):
            continue
        closing = "}}" if match[0] == "{{" else "}"
        end = end_of_template(source, at, closing)
        if end < 0:
            raise ExpressionSyntaxError(
                f"The template at character {match.start() + 1} has no end `{closing}`; "
                f"write `\\{match[0]}` if it is meant as text.",
                match.start(),
            )
        found.append((match.start(), at, end, end + len(closing)))
        at = end + len(closing)
    return found


def _text(pieces: Sequence[str | Evaluator], url: bool) -> Evaluator:
    encoded = _encoded(pieces) if url else frozenset()
    parts = [(piece, at in encoded) for at, piece in enumerate(pieces)]

    def run(scope: Scope, frame: Any) -> Json:
        texts = []
        for piece, encode in parts:
            if isinstance(piece, str):
                texts.append(piece)
            else:
                text = text_of(piece(scope, frame))
                texts.append(quote(text, safe="") if encode else text)
        return sized_text("".join(texts), scope)

    return run


def _encoded(pieces: Sequence[str | Evaluator]) -> frozenset[int]:
    """Which pieces stand in the path, the query or the fragment: those after the first `/`, `?` or `#` of the text.

    The slashes of `scheme://` don't count; before them a value may be a scheme, a host or a whole base URL.
    """
    places = set()
    inside = False
    for at, piece in enumerate(pieces):
        if not isinstance(piece, str):
            if inside:
                places.add(at)
        elif not inside:
            inside = re.search(r"[/?#]", piece.replace("://", "", 1)) is not None
    return frozenset(places)
