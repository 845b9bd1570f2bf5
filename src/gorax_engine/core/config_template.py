"""Compiling a node's config to something that renders fast: constants are folded, only templates are evaluated.

The node type's JSON Schema says by its `x-gorax` annotations (see `model.NodeSpec`) what a string is: a template, an
expression that reaches the node unevaluated, a path, the name of a credential, or plain text. A key that a closed
schema doesn't know is left out: it never reaches the node. Rendered values share their constant parts, so nobody may
change them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gorax_engine.core.expressions import (
    CREDENTIALS,
    BoundExpression,
    Expression,
    ExpressionSyntaxError,
    Reference,
    Scope,
    compile_expression,
    compile_template,
    is_template,
    whole_credential,
    without_marks,
)
from gorax_engine.core.model import Json
from gorax_engine.core.schemas import Path, Place

_Render: TypeAlias = Callable[[Scope], Json]
_Record: TypeAlias = Callable[[Json], Json]

Steps: TypeAlias = frozenset[str] | None
"""The ids of the definition's nodes: with them `steps.a-1` is told apart from a subtraction."""

_OPEN: Final = Place.root({})

_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class Site:
    """One string of a config that is not plain text.

    `expression` is None where it doesn't parse; `error` then says why. `locals` are the names that the node itself
    gives to the expression; `secrets` says whether `credentials.*` may be used here; `bound` whether the expression
    reaches the node unevaluated.
    """

    path: Path
    source: str
    expression: Expression | None
    error: ExpressionSyntaxError | None
    locals: frozenset[str]
    secrets: bool
    bound: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """A compiled value: `render` is None for a constant; `record` is None where the rendered value says it all."""

    constant: Json
    render: _Render | None = None
    record: _Record | None = None


@dataclass(frozen=True, slots=True)
class ConfigTemplate:
    """A compiled config, or any other JSON value with templates in it."""

    references: tuple[Reference, ...]
    _part: _Part

    @property
    def credential_names(self) -> frozenset[str]:
        """The names of the credentials that `render` may look up in the root `credentials`."""
        return frozenset(str(reference.path[0]) for reference in self.references if reference.root == CREDENTIALS)

    def render(self, scope: Scope) -> Json:
        """Return the value with its templates evaluated; raises ExpressionError."""
        render = self._part.render
        return self._part.constant if render is None else render(scope)

    def record(self, rendered: Json) -> Json:
        """Return what `render` gave as plain JSON: bound expressions are replaced by their source, and the credentials
        of fields that name one by that name. What templates made of credentials is still in it.
        """
        record = self._part.record
        return rendered if record is None else record(rendered)


def compile_config(config: Mapping[str, Json], schema: Mapping[str, Json], known_steps: Steps = None) -> ConfigTemplate:
    """Compile a node's config along its type's schema; raises ExpressionSyntaxError."""
    return _compile(config, Place.root(schema), known_steps)


def compile_value(value: Json, known_steps: Steps = None) -> ConfigTemplate:
    """Compile a value in which every string is a template; raises ExpressionSyntaxError."""
    return _compile(value, _OPEN, known_steps)


def compile_condition(source: str, known_steps: Steps = None) -> Expression:
    """Compile an expression; template marks around it, or around parts of it, are accepted as parentheses.

    Gorax users write `{{trigger.body.n}} > 5`. Raises ExpressionSyntaxError.
    """
    try:
        return compile_expression(source, known_steps=known_steps)
    except ExpressionSyntaxError:
        plain = without_marks(source)
        if plain == source:
            raise
        try:
            return compile_expression(plain, known_steps=known_steps)
        except ExpressionSyntaxError:
            pass
        raise


def compile_path(source: str, known_steps: Steps = None) -> Expression:
    """Compile a path or a template: a text with templates is one, any other is an expression.

    Raises ExpressionSyntaxError.
    """
    if is_template(source):
        return compile_template(source, known_steps=known_steps)
    return compile_expression(source, known_steps=known_steps)


def find_condition_site(source: str, known_steps: Steps = None) -> Site:
    """Return the site of a condition that stands alone, such as a node's `when`."""
    (site,) = find_sites(source, {"type": "string", "x-gorax": "expression"}, known_steps)
    return site


def find_sites(value: Json, schema: Mapping[str, Json] | None = None, known_steps: Steps = None) -> tuple[Site, ...]:
    """Return all expressions and templates of a config (or, without a schema, of any value), parsed or not."""
    compiler = _Compiler(known_steps)
    compiler.compile(value, _OPEN if schema is None else Place.root(schema), ())
    return tuple(compiler.sites)


def _compile(value: Json, place: Place, known_steps: Steps) -> ConfigTemplate:
    compiler = _Compiler(known_steps)
    part = compiler.compile(value, place, ())
    references: dict[Reference, None] = dict.fromkeys(compiler.credentials)
    for site in compiler.sites:
        if site.error is not None:
            raise site.error
        if site.expression is not None:
            references.update((reference, None) for reference in site.expression.references)
    return ConfigTemplate(tuple(references), part)


class _Compiler:
    """One pass over a value along its schema; collects the sites that it meets."""

    def __init__(self, known_steps: Steps) -> None:
        self.sites: list[Site] = []
        self.credentials: list[Reference] = []
        self._known_steps = known_steps

    def compile(self, value: Json, place: Place, path: Path) -> _Part:
        match value:
            case str():
                return self._compile_text(value, place.at(value), path)
            case dict():
                here = place.at(value)
                return _object_part(
                    {
                        key: self.compile(member, here.member(key), (*path, key))
                        for key, member in value.items()
                        if not here.refuses(key)
                    }
                )
            case list():
                here = place.at(value)
                return _array_part([self.compile(item, here.item(at), (*path, at)) for at, item in enumerate(value)])
            case _:
                return _Part(value)

    def _compile_text(self, text: str, place: Place, path: Path) -> _Part:
        annotation = place.annotation()
        if annotation in {"literal", "name"}:
            return _Part(text)
        if annotation == "credential":
            return self._compile_credential(text, place, path)
        either = annotation in {"path", "bound_path"}
        bound = annotation in {"expression", "bound_path"}
        if not bound and not either and "{{" not in text and "${" not in text:
            return _Part(text)
        expression, error = None, None
        try:
            if either:
                expression = compile_path(text, self._known_steps)
            elif bound:
                expression = compile_condition(text, self._known_steps)
            else:
                expression = compile_template(text, url=annotation == "url", known_steps=self._known_steps)
            _require_names_of_credentials(expression)
        except ExpressionSyntaxError as fault:
            error = fault
        if error is not None:
            expression = None
        self.sites.append(Site(path, text, expression, error, place.locals, place.secrets, bound))
        if expression is None:
            return _Part(text)
        return _Part(None, expression.bind, _record_bound) if bound else _Part(None, expression)

    def _compile_credential(self, name: str, place: Place, path: Path) -> _Part:
        if not _CREDENTIAL_NAME.fullmatch(name):
            error = ExpressionSyntaxError(
                "Here stands the name of a credential as it is, of letters, digits, `_` and `-`, and no template.", 0
            )
            self.sites.append(Site(path, name, None, error, place.locals, True, False))
            return _Part(name)
        self.credentials.append(Reference(CREDENTIALS, (name,)))
        return _Part(None, lambda scope: whole_credential(scope, name), lambda _: name)


def _require_names_of_credentials(expression: Expression) -> None:
    """Refuse a use of credentials of which it isn't known which: they are fetched before anything is evaluated."""
    for root, path in expression.references:
        if root == CREDENTIALS and not (path and isinstance(path[0], str)):
            raise ExpressionSyntaxError(
                "Which credential is meant must stand in the expression: write `credentials.name`.", 0
            )


def _record_bound(rendered: Json) -> Json:
    return rendered.source if isinstance(rendered, BoundExpression) else rendered


def _object_part(parts: Mapping[str, _Part]) -> _Part:
    blank = {key: part.constant for key, part in parts.items()}
    renders = [(key, part.render) for key, part in parts.items() if part.render is not None]
    if not renders:
        return _Part(blank)
    records = [(key, part.record) for key, part in parts.items() if part.record is not None]
    return _Part(None, _object_render(blank, renders), _object_record(records) if records else None)


def _object_render(blank: dict[str, Json], renders: Sequence[tuple[str, _Render]]) -> _Render:
    if len(blank) == 1:
        ((only, render_only),) = renders
        return lambda scope: {only: render_only(scope)}

    def render(scope: Scope) -> Json:
        value = blank.copy()  # keeps the order of the keys
        for key, render_member in renders:
            value[key] = render_member(scope)
        return value

    return render


def _object_record(records: Sequence[tuple[str, _Record]]) -> _Record:
    def record(rendered: Json) -> Json:
        value = dict(rendered)
        for key, record_member in records:
            value[key] = record_member(value[key])
        return value

    return record


def _array_part(parts: Sequence[_Part]) -> _Part:
    blank = [part.constant for part in parts]
    renders = [(at, part.render) for at, part in enumerate(parts) if part.render is not None]
    if not renders:
        return _Part(blank)
    records = [(at, part.record) for at, part in enumerate(parts) if part.record is not None]

    def render(scope: Scope) -> Json:
        value = blank.copy()
        for at, render_item in renders:
            value[at] = render_item(scope)
        return value

    def record(rendered: Json) -> Json:
        value = list(rendered)
        for at, record_item in records:
            value[at] = record_item(value[at])
        return value

    return _Part(None, render, record if records else None)
