"""Credentials as nodes receive them: an object with `name`, `type` and the fields of the secret value.

A node says which types it can use; whatever else is named fails the step with a sentence that holds names only.
"""

from collections.abc import Mapping, Sequence

from gorax_engine.core.model import Json
from gorax_engine.nodes.outbound_errors import OutboundError


class UnusableCredential(OutboundError):
    """The credential is of a type that the node can't use, or lacks a field."""

    code = "unusable_credential"


def given_credential(value: Json, types: Sequence[str]) -> Mapping[str, Json]:
    """Return the credential that a config holds; `types` are those that the node can use. Raises UnusableCredential."""
    if not isinstance(value, Mapping):
        raise UnusableCredential("No credential was given: `credential` must be the name of one.")
    if value.get("type") not in types:
        raise UnusableCredential(f"{_named(value)} is of the type {value.get('type')}, but {_listed(types)} is needed.")
    return value


def secret_field(credential: Mapping[str, Json], *fields: str) -> str:
    """Return the first of `fields` that the credential has, which must be text. Raises UnusableCredential."""
    for field in fields:
        if isinstance(found := credential.get(field), str) and found:
            return found
    raise UnusableCredential(f"{_named(credential)} needs the field {_listed(fields)}.")


def _named(credential: Mapping[str, Json]) -> str:
    return f"The credential `{credential.get('name', '')}`"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
