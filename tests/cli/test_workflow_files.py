"""Workflow files: both formats, all faults at once, and nothing that harms."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.cli.workflow_files import (
    MAX_BYTES,
    BadFile,
    WorkflowFile,
    check_workflows,
    parse,
    read_all,
    read_workflows,
    write_workflows,
)

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


def test_the_settings_of_a_file_win_over_those_of_its_definition() -> None:
    definition = {"nodes": [], "settings": {"timeout": "1m", "missing": "null"}}
    whole = WorkflowFile(Path(), "", "a", definition, settings={"timeout": "1h"}).whole_definition()
    assert whole == {"nodes": [], "settings": {"timeout": "1h", "missing": "null"}}
    assert WorkflowFile(Path(), "", "a", definition).whole_definition() is definition


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
        ("a.yaml", "a: 1\n---\nb: 2", r"a\.yaml#/0/name: a workflow needs a name"),
        ("a.yaml", "a: -.inf", "-.inf is not a JSON number"),
        ("a.yaml", "a: 1e999", "1e999 is not a JSON number"),
        ("a.yaml", "a: " + "9" * 5_000, "is not a JSON number"),
        ("a.json", '{"name": 1e999}', "1e999 is not a number"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
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


@pytest.mark.parametrize(
    "word",
    [
        "2026-01-02",
        "2026-01-02T03:04:05Z",
        "==",
        "yes",
        "NO",
        "on",
        "01234",
        "+49123",
        "1:30",
        "0x1F",
        "1_000",
        ".5",
        "<<",
    ],
)
def test_a_plain_word_is_what_it_looks_like(word: str) -> None:
    assert parse(Path("a.yaml"), f"{word}: {word}") == {word: word}


def test_plain_words_that_are_no_text() -> None:
    text = "[~, null, '', true, False, 0, -7, 1.5, 1e16, -2.5E-3]"
    assert parse(Path("a.yaml"), text) == [None, None, "", True, False, 0, -7, 1.5, 1e16, -2.5e-3]
    assert parse(Path("a.yaml"), "a:") == {"a": None}


def test_documents_each_are_a_workflow_or_a_list(tmp_path: Path) -> None:
    text = "---\nname: a\ndefinition: {}\n---\n- {name: b, definition: {}}\n- {name: c, definition: {}}\n---\n"
    found = read_workflows(write(tmp_path, "many.yaml", text))
    assert [(each.name, each.pointer) for each in found] == [("a", "/0"), ("b", "/1/0"), ("c", "/1/1")]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (json.dumps(ONE), "name: orders\ndefinition: {nodes: [], edges: []}\nsettings: {timeout: 1h}\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        (workflow,) = read_workflows(Path("-"))
        assert workflow.body() == ONE


def test_two_workflows_of_one_name_are_told_with_their_places(tmp_path: Path) -> None:
    first = write(tmp_path, "a.json", json.dumps(ONE))
    second = write(tmp_path, "b.json", json.dumps([{**ONE, "name": "x"}, ONE]))
    assert len(read_all([first])) == 1
    with pytest.raises(BadFile, match=r"'orders' stands twice: .*a\.json# and .*b\.json#/1; rename"):
        read_all([first, second])


@settings(max_examples=100, deadline=None)
@given(json_values | st.text(), st.booleans())
def test_what_is_written_is_read_as_the_same(value: object, as_json: bool) -> None:
    definition = {"nodes": [value], "a text": "one\ntwo  \n", "on": "yes"}
    workflows = [WorkflowFile(Path(), "", name, definition, description="d") for name in ("a", "b")]
    for count in (1, 2):
        text = write_workflows(workflows[:count], as_json=as_json)
        path = Path("a.json" if as_json else "a.yaml")
        assert [each.body() for each in check_workflows(path, parse(path, text))] == [
            each.body() for each in workflows[:count]
        ]


def test_scripts_are_written_as_blocks_and_words_of_other_tools_in_quotes() -> None:
    definition = {"script": "const a = 1;\nreturn a;\n", "country": "no", "day": "2026-01-02", "n": 1e16}
    text = write_workflows([WorkflowFile(Path(), "", "a", definition)], as_json=False)
    assert text == (
        "name: a\ndefinition:\n  script: |\n    const a = 1;\n    return a;\n"
        "  country: 'no'\n  day: '2026-01-02'\n  n: 1e+16\n"
    )


@settings(max_examples=50, deadline=None)
@given(json_values)
def test_json_is_read_alike_as_json_and_as_yaml(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert parse(Path("a.json"), text) == value
    assert parse(Path("a.yaml"), text) == value
