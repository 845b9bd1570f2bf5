"""What credentials may be: their names, their types, which fields each must have, and which of those are no secrets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gorax_engine.core.model import Json
from gorax_engine.errors import InvalidInput, Problem

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
MAX_VALUE_BYTES: Final = 16_384
"""The longest value, as JSON: room for a chain of certificates, and quick to mask."""
MAX_FIELDS: Final = 100
MAX_FIELD_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class CredentialType:
    """What a type asks for. `plain` are fields that are shown unmasked: they say where and who, and open nothing."""

    required: tuple[str, ...] = ()
    plain: frozenset[str] = frozenset()


_SERVER: Final = frozenset({"host", "port", "database", "username", "tls", "from", "region", "bucket", "ssl_mode"})
_MAIL: Final = CredentialType(("host",), _SERVER)
_TYPES: Final[Mapping[str, CredentialType]] = {
    "api_key": CredentialType(("key",)),
    "oauth2": CredentialType(
        ("client_id", "client_secret"), frozenset({"client_id", "token_url", "scopes", "token_type", "expires_at"})
    ),
    "basic_auth": CredentialType(("username", "password"), frozenset({"username"})),
    "bearer_token": CredentialType(("token",)),
    "email_smtp": _MAIL,
    "smtp": _MAIL,
    "custom": CredentialType((), frozenset({"type", "host", "port", "region"})),
}
_FAMILIES: Final[Mapping[str, CredentialType]] = {
    "database": CredentialType(("host", "database", "username", "password"), _SERVER),
    "queue": CredentialType((), _SERVER),
    "email": CredentialType((), _SERVER),
    "sms": CredentialType((), _SERVER),
    "storage": CredentialType((), _SERVER),
}
KNOWN_TYPES: Final = (*_TYPES, *(f"{family}_*" for family in _FAMILIES))
"""The types by name; `_*` stands for a product: `database_postgres`, `storage_s3`."""

_encode: Final = msgspec.json.Encoder().encode


def find_type(name: str) -> CredentialType | None:
    """Return the type called `name`, None if there is none."""
    known = _TYPES.get(name)
    if known is not None:
        return known
    family, _, product = name.partition("_")
    plausible = len(name) <= 100 and product.isascii() and product.replace("_", "").isalnum()
    return _FAMILIES.get(family) if plausible and name == name.lower() else None


def check_type(name: str) -> CredentialType:
    """Return the type called `name`. Raises InvalidInput, naming the types that there are."""
    found = find_type(name)
    if found is None:
        message = f"There is no credential type `{name[:100]}`; there are {', '.join(KNOWN_TYPES)}."
        raise InvalidInput(
            "The credential's type is unknown.", problems=[Problem("unknown_credential_type", "/type", message)]
        )
    return found


def check_value(type_name: str, value: Mapping[str, Json]) -> None:
    """Refuse a value that its type can't use: unknown type, no fields, missing ones, too large.

    Raises InvalidInput; no message shows anything of the value but names of fields.
    """
    kind = check_type(type_name)
    problems = [
        Problem("missing_field", f"/value/{field}", f"A credential of the type `{type_name}` needs `{field}`.")
        for field in kind.required
        if not _is_given(field, value.get(field))
    ]
    if not value:
        problems = problems or [Problem("missing_field", "/value", "The value needs at least one field.")]
    if len(value) > MAX_FIELDS or any(not 0 < len(field) <= MAX_FIELD_NAME for field in value):
        message = f"The value may have {MAX_FIELDS} fields, each with a name of 1 to {MAX_FIELD_NAME} characters."
        problems.append(Problem("invalid_field", "/value", message))
    if len(_encode(value)) > MAX_VALUE_BYTES:
        problems.append(Problem("value_too_large", "/value", f"The value is larger than {MAX_VALUE_BYTES} bytes."))
    if problems:
        raise InvalidInput("The credential's value is wrong; see `errors`.", problems=problems)


def _is_given(field: str, value: Json) -> bool:
    # Services that take a token as the user name have an empty password.
    return isinstance(value, str) and (value != "" or field == "password")


def secrets_of(type_name: str, value: Mapping[str, Json]) -> list[str]:
    """Return every text of a value that must not be shown, in no order; an integer counts as its digits.

    A user name is a secret where the password is empty: then it is a token by another name.
    """
    kind = find_type(type_name) or CredentialType()
    plain = kind.plain - {"username"} if not value.get("password") else kind.plain
    found: list[str] = []
    stack = [item for field, item in value.items() if field not in plain]
    while stack:
        item = stack.pop()
        match item:
            case str():
                found.append(item)
            case bool():
                pass
            case int():
                found.append(str(item))
            case dict():
                stack.extend(item.values())
            case list():
                stack.extend(item)
            case _:
                pass
    return found


def login_of(value: Mapping[str, Json]) -> str | None:
    """Return `user:password` of a value that has both: what HTTP's basic authentication sends, in base64."""
    user, password = value.get("username"), value.get("password")
    return f"{user}:{password}" if isinstance(user, str) and isinstance(password, str) else None
