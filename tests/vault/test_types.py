"""Types of credentials: what each needs, and what of them is secret."""

from typing import Any

import pytest

from gorax_engine.errors import InvalidInput
from gorax_engine.vault.types import KNOWN_TYPES, check_type, check_value, find_type, login_of, secrets_of

SERVER = {"host": "db", "database": "d", "username": "u", "password": "p"}


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("api_key", {"key": "k"}),
        ("oauth2", {"client_id": "i", "client_secret": "s", "token_url": "https://x"}),
        ("basic_auth", {"username": "u", "password": "p"}),
        ("basic_auth", {"username": "token-as-user", "password": ""}),
        ("bearer_token", {"token": "t"}),
        ("smtp", {"host": "mail", "port": 587}),
        ("custom", {"anything": {"at": ["all"]}}),
        ("database_postgres", SERVER),
        ("storage_s3", {"access_key": "a", "secret_key": "b"}),
        ("email_smtp", {"host": "mail"}),
    ],
)
def test_what_a_type_needs_is_enough(type: str, value: dict[str, Any]) -> None:
    check_value(type, value)


@pytest.mark.parametrize(
    ("type", "value", "pointers"),
    [
        ("api_key", {"api_key": "k"}, ["/value/key"]),
        ("email_smtp", {"username": "u"}, ["/value/host"]),
        ("api_key", {"key": ""}, ["/value/key"]),
        ("api_key", {"key": 5}, ["/value/key"]),
        ("basic_auth", {}, ["/value/username", "/value/password"]),
        ("oauth2", {"client_id": "i"}, ["/value/client_secret"]),
        ("database_mysql", {"host": "h"}, ["/value/database", "/value/username", "/value/password"]),
        ("custom", {}, ["/value"]),
        ("custom", {"a": "x" * 17_000}, ["/value"]),
        ("custom", {str(n): "" for n in range(101)}, ["/value"]),
        ("custom", {"": "x"}, ["/value"]),
    ],
)
def test_every_fault_is_named_and_no_value_is_shown(type: str, value: dict[str, Any], pointers: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_value(type, value)
    assert [problem.pointer for problem in caught.value.problems] == pointers
    assert "xxx" not in str(caught.value.problems)


@pytest.mark.parametrize(
    "name", ["", "api-key", "database", "database_", "database_ß", "Database_x", "x_y", "sms_" + "y" * 100]
)
def test_an_unknown_type_is_answered_with_the_known_ones(name: str) -> None:
    assert find_type(name) is None
    with pytest.raises(InvalidInput) as caught:
        check_type(name)
    assert ", ".join(KNOWN_TYPES) in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("type", "value", "secret"),
    [
        ("basic_auth", {"username": "u", "password": "p"}, ["p"]),
        ("basic_auth", {"username": "u", "password": ""}, ["", "u"]),
        ("database_x", {**SERVER, "port": 5432}, ["p"]),
        ("oauth2", {"client_id": "i", "client_secret": "s", "scopes": ["a"]}, ["s"]),
        ("custom", {"a": {"b": ["c", 1234, True, None, 1.5]}, "type": "t"}, ["1234", "c"]),
        ("unheard_of", {"username": "u"}, ["u"]),
    ],
)
def test_what_is_secret(type: str, value: dict[str, Any], secret: list[str]) -> None:
    assert sorted(secrets_of(type, value)) == secret


def test_a_login_is_user_and_password() -> None:
    assert login_of({"username": "u", "password": "p"}) == "u:p"
    assert login_of({"username": "u"}) is None
