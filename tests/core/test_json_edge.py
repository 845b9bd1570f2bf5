"""The JSON edge: what is refused, with which words, and that what passes comes back unchanged."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.json_edge import JsonLimits, Unencodable, encode, parse
from gorax_engine.errors import MalformedInput, PayloadTooLarge

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**63), 10**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=5)
    ),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    """Equal, with equal types (1 and 1.0 are not the same)."""
    return json.dumps(left) == json.dumps(right) and left == right


@given(VALUES)
def test_what_is_encoded_parses_to_the_same_value(value: object) -> None:
    assert same(parse(encode(value).encode()), value)


@given(VALUES)
def test_no_float_is_left_that_jsonb_would_turn_into_an_integer(value: object) -> None:
    floats: list[str] = []

    def keep(text: str) -> float:
        floats.append(text)
        return float(text)

    json.loads(encode(value), parse_float=keep)
    assert not [text for text in floats if "e" in text and "e-" not in text]


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused_in_words(data: bytes) -> None:
    message, value = ".", None
    try:
        value = parse(data)
    except MalformedInput as error:
        message = error.message
    assert message.endswith(".")
    encode(value)


@given(st.text(st.sampled_from('\\u0dD89abcefF"{}[]:,1.-+eE '), max_size=40))
def test_any_text_of_awkward_characters_is_refused_or_storable(text: str) -> None:
    try:
        value = parse(f'"{text}"'.encode())
    except MalformedInput:
        return
    encode(value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (rb'"a\u0000b"', "NUL"),
        (rb'{"a\u0000": 1}', "NUL"),
        (rb'"\\\u0000"', "NUL"),
        (b'"a\x00b"', "NUL"),
        (rb'"\ud800"', "surrogate"),
        (rb'"\udc00\ud800"', "surrogate"),
        (rb'"\ud800x"', "surrogate"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "too large"),
        (b"[1e131071]", "too large"),
        (b"-1e400", "too large"),
        (b"9" * 65, "64 digits"),
        (b"-" + b"9" * 65, "64 digits"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "64 digits"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b"[" * 200_000, "64 levels"),
        (b'{"a":' * 100_000, "64 levels"),
        (b'"\xff"', "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\x00}\x00", "JSON"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{'a': 1}", "not JSON"),
        (b"1 2", "not JSON"),
        (b"[1,]", "not JSON"),
    ],
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedInput, match=words):
        parse(data)


def test_too_many_bytes() -> None:
    with pytest.raises(PayloadTooLarge, match="11 bytes"):
        parse(b'"123456789"', JsonLimits(max_bytes=10))


def test_too_many_keys_are_counted_over_all_objects() -> None:
    data = b'[{"a":1},{"b":2},{"c":3}]'
    assert parse(data, JsonLimits(max_keys=3)) == [{"a": 1}, {"b": 2}, {"c": 3}]
    for text in (data, b'{"a":{"b":{"c":3}}}'):
        with pytest.raises(MalformedInput, match="2 object members"):
            parse(text, JsonLimits(max_keys=2))


def test_what_only_looks_like_a_breach_passes() -> None:
    assert parse(rb'"\\u0000"') == r"\u0000"
    assert parse(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert parse(b'"' + b"9" * 100 + b'"') == "9" * 100
    assert parse(b"[" * 64 + b"]" * 64) is not None
    assert parse(b"9" * 64) == int("9" * 64)
    assert parse(b'"' + b":" * 20_000 + b'"') == ":" * 20_000
    assert parse(b"0." + b"1" * 100) == pytest.approx(1 / 9)


def test_the_last_of_repeated_keys_wins() -> None:
    assert parse(b'{"a": 1, "a": 2}') == {"a": 2}


def test_integers_are_exact() -> None:
    assert parse(b"12345678901234567890123") == 12345678901234567890123
    assert encode(-(10**40)) == "-1" + "0" * 40


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [None, {"a": math.inf}],
        {"a": [-math.inf]},
        "a\0b",
        {"a\0": 1},
        "\\\0",
        "\ud800",
        {"\udfff": 1},
        10**5_000,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unencodable(value: object) -> None:
    with pytest.raises(Unencodable):
        encode(value)


def test_a_value_deeper_than_the_stack_is_unencodable() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Unencodable, match="deep"):
        encode(value)
    while value:  # an iterative end: the interpreter's own release of such a nest is not what is tested
        value = value.pop()  # type: ignore[assignment]


def test_encode_is_compact_and_leaves_strings_alone() -> None:
    assert encode({"a": [1, 2.5, None, "é"], "b": r"\u0000"}) == r'{"a":[1,2.5,null,"é"],"b":"\\u0000"}'
    assert encode({"t": '1e20,"', "f": 1e20, "g": -1.25e17}) == (
        '{"t":"1e20,\\"","f":100000000000000000000.0,"g":-125000000000000000.0}'
    )
    assert encode([1e-7, 1e15]) == "[1e-7,1000000000000000.0]"
