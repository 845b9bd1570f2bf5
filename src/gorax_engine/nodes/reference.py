"""Writing down what node types are, from their descriptions: the Markdown of `docs/nodes.md`, and that of plug-ins."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gorax_engine.core.model import NO_RETRY, SECOND, Json, NodeKind, NodeSpec, RetryPolicy
from gorax_engine.core.schemas import Schema, resolve

KINDS: Final[Mapping[NodeKind, str]] = {
    NodeKind.TRIGGER: "Triggers",
    NodeKind.CONTROL: "Control",
    NodeKind.WALK: "Scopes and joins",
    NodeKind.PURE: "Pure",
    NodeKind.TASK: "Tasks",
}
"""The kinds in the order of the page, with their headings."""
DEPTH: Final = 5
"""How deep keys are listed."""

_ANNOTATIONS: Final[Mapping[str, str]] = {
    "expression": "expression",
    "path": "path",
    "bound_path": "path",
    "literal": "literal text",
    "name": "name",
    "url": "URL",
    "credential": "name of a credential",
}
"""What a text is called that is annotated."""
_WORDS: Final[Mapping[str, str]] = {
    "array": "list",
    "boolean": "true or false",
    "integer": "whole number",
    "null": "null",
    "number": "number",
    "object": "object",
    "string": "text",
}
_PARENTS: Final = frozenset({"properties", "items", "additionalProperties"})
_FORMATS: Final[Mapping[str, str]] = {"gorax-duration": "duration", "gorax-instant": "moment"}


_HEAD: Final = """\
# Node types

What each type's config may say. Generated from the schemas that configs are checked against, so it is complete; what
nodes *mean* in a graph is told in [workflow-language.md](workflow-language.md). `gorax node list` and `gorax node show`
print the same for an installation with its [plug-ins](how-to/node-plugins.md).

Keys in **bold** are needed, `[]` is each item of a list, `*` is any name. Of values:

- *text* is a [template](expressions.md#templates): `{{ … }}` and `${ … }` in it are rendered, and what is one template
  whole may give any value. A template may stand where another kind of value is asked for, too.
- an *expression* is evaluated by the node and is no template; a *path* is a template if it has one, else an expression.
- *literal text* and *names* are taken as they stand. In a *URL*, rendered values are percent-encoded.
- a *duration* is seconds, `"1h30m"` or `"PT1H30M"`; a *moment* is RFC 3339 with an offset.
- where a key *takes secrets*, `{{ credentials.<name> }}` may be used.
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a table: a key of the config with all that its schema says of it."""

    key: str
    form: str
    default: str
    text: str


def render_page(specs: Iterable[NodeSpec]) -> str:
    """Return the page of the engine's own node types."""
    listed = tuple(specs)
    return f"{_HEAD}\n{render_index(listed)}\n{render_types(listed)}"


def render_types(specs: Iterable[NodeSpec]) -> str:
    """Return the chapters of node types as Markdown, by kind and name; the same for the same types."""
    by_kind: dict[NodeKind, list[NodeSpec]] = {kind: [] for kind in KINDS}
    for spec in sorted(specs, key=lambda spec: spec.name):
        by_kind[spec.kind].append(spec)
    parts = [
        f"## {KINDS[kind]}\n\n" + "\n".join(render_type(spec) for spec in members)
        for kind, members in by_kind.items()
        if members
    ]
    return "\n".join(parts)


def render_index(specs: Iterable[NodeSpec]) -> str:
    """Return a table of node types with links to their chapters."""
    order = list(KINDS)
    lines = ["| type | kind | |", "| --- | --- | --- |"]
    lines += [
        f"| [`{spec.name}`](#{_anchor(spec.name)}) | {_kind(spec)} | {_cell(spec.title)} |"
        for spec in sorted(specs, key=lambda spec: (order.index(spec.kind), spec.name))
    ]
    return "\n".join(lines) + "\n"


def render_type(spec: NodeSpec) -> str:
    """Return the chapter of one node type as Markdown."""
    lines = [f"### {spec.name}", "", f"**{spec.title}.** {spec.description}", ""]
    if spec.aliases:
        lines.append(f"- Also read as {_listed([f'`{alias}`' for alias in spec.aliases])}.")
    outcomes = _outcomes(spec)
    if outcomes:
        lines.append(f"- {outcomes}")
    lines.append(f"- {_retries(spec.retry)}")
    needs = _alternatives(spec.schema)
    if needs:
        lines.append(f"- {needs}")
    rows = list(_rows(Places.of(spec.schema), "", DEPTH))
    if rows:
        lines += ["", "| key | value | default | |", "| --- | --- | --- | --- |"]
        lines += [f"| {row.key} | {row.form} | {row.default} | {row.text} |" for row in rows]
    else:
        lines.append("- Its config has no keys.")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Places:
    """All subschemas that may describe one place of a config, whatever stands there."""

    forms: tuple[Schema, ...]
    required: frozenset[str]
    document: Schema

    @classmethod
    def of(cls, schema: Schema, document: Schema | None = None) -> "Places":
        """Return the place that `schema` describes, through `$ref`, `allOf`, `anyOf`, `oneOf`, `then` and `else`."""
        document = schema if document is None else document
        return cls.merged((schema,), document)

    @classmethod
    def merged(cls, schemas: Sequence[Json], document: Schema) -> "Places":
        """Return the place that several subschemas describe; what one of them needs always is needed."""
        found: dict[int, Schema] = {}
        required: set[str] = set()
        for schema in schemas:
            _gather(schema, document, found, required)
        return cls(tuple(found.values()), frozenset(required), document)

    def children(self) -> Iterator[tuple[str, "Places", bool]]:
        """Yield the keys below with their places, and whether each is always needed."""
        keys = dict.fromkeys(key for form in self.forms for key in form.get("properties", {}))
        for key in keys:
            members = [form["properties"][key] for form in self.forms if key in form.get("properties", {})]
            if not any(
                member is False or (isinstance(member, Mapping) and member.get("not") == {}) for member in members
            ):
                yield key, self.merged(members, self.document), key in self.required
        named = [form["additionalProperties"] for form in self.forms if _has_rows(form.get("additionalProperties"))]
        if named:
            yield "*", self.merged(named, self.document), False
        items = [form["items"] for form in self.forms if _has_rows(form.get("items"))]
        if items:
            yield "[]", self.merged(items, self.document), False

    def first(self, keyword: str) -> Json:
        """Return what the first form says that has the keyword, or None."""
        return next((form[keyword] for form in self.forms if keyword in form), None)

    def parents(self) -> set[int]:
        """Return what tells the subschemas with keys or items below them apart."""
        return {id(form) for form in self.forms if form.keys() & _PARENTS}


def _gather(schema: Json, document: Schema, found: dict[int, Schema], required: set[str] | None) -> None:
    """Collect a subschema and those that it leads to; keys that are needed only in some case are not `required`."""
    if not isinstance(schema, Mapping) or id(schema) in found:
        return
    found[id(schema)] = schema
    if required is not None:
        required.update(schema.get("required", ()))
    if (reference := schema.get("$ref")) is not None:
        _gather(resolve(reference, document), document, found, required)
    for branch in schema.get("allOf", ()):
        _gather(branch, document, found, required)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("then"), schema.get("else")):
        _gather(branch, document, found, None)


def _has_rows(schema: Json) -> bool:
    return isinstance(schema, Mapping) and bool(schema)


def _rows(place: Places, prefix: str, depth: int) -> Iterator[_Row]:
    """Yield the keys below a place and, behind each, those below it; one that holds itself is not followed twice."""
    for key, below, needed in place.children():
        name = f"{prefix}[]" if key == "[]" else f"{prefix}.{key}".removeprefix(".")
        own = below.parents() - place.parents()
        if key not in ("*", "[]") or below.first("description") is not None:
            yield _row(f"**`{name}`**" if needed else f"`{name}`", below)
        if own and depth > 1:
            yield from _rows(below, name, depth - 1)


def _row(key: str, place: Places) -> _Row:
    default = place.first("default")
    notes = [] if (text := place.first("description")) is None else [_cell(text)]
    if any(form.get("x-gorax-secrets") is True for form in place.forms):
        notes.append("Takes secrets.")
    if names := sorted({name for form in place.forms for name in form.get("x-gorax-locals", ())}):
        notes.append(f"Knows {_listed([f'`{name}`' for name in names])}.")
    return _Row(key, _form(place), "" if default is None else f"`{_json(default)}`", " ".join(notes))


def _form(place: Places) -> str:
    """Return what may stand at a place, in words."""
    words: dict[str, None] = {}
    for form in place.forms:
        if "const" in form:
            words[f"`{_json(form['const'])}`"] = None
        elif "enum" in form:
            words.update((f"`{_json(option)}`", None) for option in form["enum"])
        else:
            words.update((word, None) for word in _type_words(form))
    if "whole number" in words:
        words.pop("number", None)
    annotations = dict.fromkeys(_ANNOTATIONS[form["x-gorax"]] for form in place.forms if "x-gorax" in form)
    if not words and list(annotations) == [_ANNOTATIONS["literal"]]:
        return "any value, as it stands"
    if annotations and (not words or "text" in words):
        words = {**annotations, **words}
        words.pop("text", None)
    listed = _listed(list(words), "or") if words else "any value"
    return ", ".join(part for part in (listed, _bounds(place)) if part)


def _type_words(form: Schema) -> Iterator[str]:
    types = form.get("type", ())
    names = [types] if isinstance(types, str) else types
    for name in names:
        if name == "array" and isinstance(form.get("items"), Mapping) and isinstance(form["items"].get("type"), str):
            yield f"list of {_plural(form['items']['type'])}"
        elif name in ("string", "number") and form.get("format") in _FORMATS:
            yield _FORMATS[form["format"]]
        else:
            yield _WORDS[name]


def _plural(name: str) -> str:
    return {"object": "objects", "array": "lists", "string": "text"}.get(name, f"{_WORDS[name]}s")


def _bounds(place: Places) -> str:
    low, high = (_bound(place, *keywords) for keywords in (("minimum", "minItems"), ("maximum", "maxItems")))
    if low is not None and high is not None:
        return f"{low} to {high}"
    if high is not None:
        return f"at most {high}"
    return f"at least {low}" if low is not None else ""


def _bound(place: Places, *keywords: str) -> str | None:
    if any(form.get("format") in _FORMATS for form in place.forms):
        return None  # it is for seconds alone
    found = next((bound for keyword in keywords if (bound := place.first(keyword)) is not None), None)
    return None if found is None else f"{found:,}"


def _outcomes(spec: NodeSpec) -> str:
    """Return a sentence on the labels of edges, or "" for a type without outcomes."""
    try:
        labels = spec.outcomes({})
    except (KeyError, TypeError, AttributeError):
        return "Outcomes, named by its config, choose the edges."
    if not labels:
        return ""
    sentence = f"Outcomes: {_listed([f'`{label}`' for label in labels])}"
    if spec.main_outcome:
        sentence += f"; an edge without a label stands for `{spec.main_outcome}`"
    for outcome, code in spec.unhandled.items():
        sentence += f"; `{outcome}` fails with `{code}` if no edge names it"
    return sentence + "."


def _retries(retry: RetryPolicy) -> str:
    if retry == NO_RETRY:
        return "Is not retried, unless its `retry` says so."
    return (
        f"Is tried up to {retry.max_attempts} times on transient errors, unless its `retry` says otherwise: after "
        f"{retry.initial_delay / SECOND:g} s, ×{retry.multiplier:g}, at most {retry.max_delay / SECOND:g} s apart."
    )


def _alternatives(schema: Schema) -> str:
    """Return a sentence on keys one of which is needed."""
    for keyword, how in (("oneOf", "Exactly one"), ("anyOf", "At least one")):
        branches = schema.get(keyword, ())
        if branches and all(set(branch) == {"required"} for branch in branches):
            keys = [" and ".join(f"`{key}`" for key in branch["required"]) for branch in branches]
            return f"{how} of {_listed(keys)} is needed."
    return ""


def _kind(spec: NodeSpec) -> str:
    return "scope or join" if spec.kind is NodeKind.WALK else spec.kind.value


def _anchor(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum() or character in "_-")


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _json(value: Json) -> str:
    match value:
        case str():
            return value or '""'
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value).replace("'", '"')


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
