"""Workflow files: both formats, all faults at once, and nothing that harms."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.cli.workflow_files import MAX_BYTES, BadFile, parse, read_workflows

ONE = {"name": "orders", "definition": {"nodes": [], "edges": []}, "settings": {"timeout": "1h"}}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_one_and_many_in_both_formats(tmp_path: Path) -> None:
    (one,) = read_workflows(write(tmp_path, "one.json", json.dumps(ONE)))
    assert one.body() == ONE
    assert one.pointer == ""
    text = "- name: a\n  description: first\n  definition: {nodes: []}\n- name: b\n  definition: {}\n"
    first, second = read_workflows(write(tmp_path, "two.yaml", text))
    assert first.body() == {"name": "a", "description": "first", "definition": {"nodes": []}}
    assert (second.name, second.pointer) == ("b", "/1")


def test_names_the_file_and_every_fault_with_its_pointer(tmp_path: Path) -> None:
    path = write(tmp_path, "bad.json", json.dumps([{"definition": [], "nodes": []}, 7, {**ONE, "description": 1}]))
    with pytest.raises(BadFile) as caught:
        read_workflows(path)
    assert [(problem.code, problem.pointer) for problem in caught.value.problems] == [
        ("missing_name", "/0/name"),
        ("missing_definition", "/0/definition"),
        ("unknown_key", "/0/nodes"),
        ("invalid_type", "/1"),
        ("invalid_type", "/2/description"),
    ]
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", '{"name": ', "not JSON: Expecting value at line 1, column 10"),
        ("a.json", '{"name": NaN}', "NaN is not a JSON value"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "a: [", "not YAML: .* at line 1"),
        ("a.yaml", "a: &x 1\nb: *x\n", r"aliases \(\*name\) are not allowed at line 2, column 4"),
        ("a.yaml", "a: .nan", "not a JSON number at line 1, column 4"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a.yaml", "a: !!binary aGk=", "could not determine a constructor"),
        ("a.yaml", "1: a", "'1' is not text; quote it"),
        ("a.yaml", "true: a", "'true' is not text; quote it"),
        ("a.yaml", "a: 1\na: 2", "'a' stands twice at line 2"),
        ("a.yaml", "a: 1\n---\nb: 2", "expected a single document"),
        ("a.yaml", "", "is not a workflow file"),
        ("a.yaml", "[]", "the list is empty"),
    ],
)
def test_refuses_with_the_place(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(BadFile, match=says):
        read_workflows(write(tmp_path, name, text))


def test_refuses_what_is_too_large_not_utf8_or_gone(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(BadFile, match="larger than 8 MiB"):
        read_workflows(large)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: \xe9")
    with pytest.raises(BadFile, match="not UTF-8: a bad byte at offset 6"):
        read_workflows(latin)
    with pytest.raises(BadFile, match="can't be read: No such file"):
        read_workflows(tmp_path / "absent.yaml")


def test_dates_stay_text_and_on_and_yes_are_what_yaml_1_1_says() -> None:
    assert parse(Path("a.yaml"), "a: 2026-01-02\nb: 2026-01-02T03:04:05Z\nc: '=='\nd: yes") == {
        "a": "2026-01-02",
        "b": "2026-01-02T03:04:05Z",
        "c": "==",
        "d": True,
    }


@settings(max_examples=50, deadline=None)
@given(json_values)
def test_json_is_read_alike_as_json_and_as_yaml(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert parse(Path("a.json"), text) == value
    assert parse(Path("a.yaml"), text) == value or _has_exponent(text)


def _has_exponent(text: str) -> bool:
    # YAML 1.1 wants a dot in a number with an exponent: 1e16 is text there.
    return "e" in text
