"""Deliveries to webhooks as GitHub, Stripe, Slack and the Standard Webhooks project publish them, one in each file.

`source` says where each part is from. Where a signature isn't published with its body, it was computed with OpenSSL by
the sender's documentation, and not by the code under test.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request. `scheme` is how it is signed with `secret`, `at` when it came, as Unix time in seconds."""

    name: str
    source: str
    scheme: str
    secret: str
    at: int
    method: str
    headers: dict[str, str]
    body: bytes

    @property
    def raw_headers(self) -> dict[str, bytes]:
        """The headers with lower-case names, as a server has them."""
        return {name.lower(): value.encode() for name, value in self.headers.items()}


def load(name: str) -> Delivery:
    """Return the delivery of the file `name`.json."""
    fields = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Delivery(name, **{**fields, "body": fields["body"].encode()})


def load_all() -> list[Delivery]:
    """Return all deliveries, by name."""
    return [load(path.stem) for path in sorted(FOLDER.glob("*.json"))]
