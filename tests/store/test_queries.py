"""Named queries: what a file may say, and how a wrong one is refused."""

from __future__ import annotations

import pytest

from gorax_engine.store.queries import load, parse


def test_a_query_is_its_sql_without_the_comment_that_explains_it() -> None:
    queries = parse(
        "x.sql", "-- A file.\n\n-- name: get\n-- Why.\nSELECT 1 -- one\n;\n\n-- name: other\nSELECT ';' AS a;\n"
    )
    assert queries.get == "SELECT 1 -- one"
    assert queries["other"] == queries.other == "SELECT ';' AS a"
    assert list(queries) == ["get", "other"]
    assert len(queries) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "'a' is defined twice"),
        ("-- name: a\n-- nothing\n-- name: b\nSELECT 1;", "'a' is empty"),
        ("-- name: camelCase\nSELECT 1;", "not a snake_case query name"),
        ("SELECT 1;", "before the first"),
    ],
)
def test_a_badly_made_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse("x.sql", text)


def test_an_unknown_query_is_named() -> None:
    with pytest.raises(AttributeError, match=r"migrate\.sql has no query named 'nothing'"):
        _ = load("migrate").nothing
