"""YAML whose values are those of JSON: read so that nothing becomes what it doesn't look like, and written likewise.

Only `true` and `false` are booleans, only JSON's numbers are numbers, and dates stay text: `no`, `01234`, `1:30` and
`2026-01-02` are what they look like. Keys are text and stand once. There are no aliases (a few lines of them grow to
gigabytes) and no tags.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from gorax_engine.core.model import Json

_PREFIX: Final = "tag:yaml.org,2002:"
_PLAIN: Final = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF|nan|NaN|NAN)", "-+.0123456789"),
)
"""What a plain word is, tried in this order, with the characters that it may begin with; all else is text."""
_KINDS: Final = ("null", "bool", "int", "float", "str", "seq", "map")


def read_yaml(text: str) -> list[Json]:
    """Return the documents of a YAML text. Raises yaml.YAMLError, RecursionError."""
    return list(yaml.load_all(text, Loader=_Loader))


def write_yaml(value: Json) -> str:
    """Return a JSON value as YAML that `read_yaml` reads as the same value; keys keep their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            place = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not allowed", place)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_PREFIX}str":
                text = getattr(key, "value", "")
                raise yaml.MarkedYAMLError(None, None, f"the key {text!r} is not text; quote it", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        try:
            value = int(node.value) if node.tag == f"{_PREFIX}int" else float(node.value.lower().replace(".inf", "inf"))
        except ValueError:
            value = math.nan  # `.nan`, and more digits than a number may have
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(None, None, f"{node.value[:40]} is not a JSON number", node.start_mark)
        return value


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # Scripts and queries are read best as they were written; where YAML can't do that, the emitter quotes them.
        return self.represent_scalar(f"{_PREFIX}str", text, style="|" if "\n" in text else None)

    def represent_number(self, value: float) -> yaml.ScalarNode:
        return self.represent_scalar(f"{_PREFIX}float", repr(value))


_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_PREFIX) in _KINDS
}
for _kind in ("int", "float"):
    _Loader.add_constructor(_PREFIX + _kind, _Loader.construct_number)
_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(float, _Dumper.represent_number)
# What other tools take for a date or a boolean is quoted when it is written, hence theirs behind ours.
_Dumper.yaml_implicit_resolvers = {}
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _PLAIN:
    _starts = ["" if character == "\0" else character for character in _first]
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _kind, re.compile(rf"(?:{_pattern})\Z"), _starts)
for _start, _resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_start, []).extend(_resolvers)
