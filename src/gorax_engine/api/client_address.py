"""From where a request comes, when proxies that are trusted stand between."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope


def client_address(scope: Scope, trusted: Sequence[IPv4Network | IPv6Network]) -> str | None:
    """Return the IP address of the client, None if it can't be known.

    X-Forwarded-For is read from its end, where the proxy that we know writes, for as long as the hop is a trusted
    proxy: what a stranger writes into the header stands before that, and is never believed.
    """
    client = scope.get("client")
    address = None if client is None else _address(client[0])
    if address is None or not trusted:
        return None if address is None else str(address)
    written = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    hops = written.split(b",") if written else []
    while hops and any(address in network for network in trusted):
        before = _address(hops.pop().decode("latin-1").strip())
        if before is None:
            return None  # our proxy says something that we can't read: whoever it is, it is not the proxy
        address = before
    return str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, as proxies write it: also with a port, IPv6 then in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
