"""Which addresses a workflow may reach: by default those of the public internet and no others.

The rule is on addresses, not on names or spellings: every address that is about to be dialled is judged, however it
was come by. Addresses that carry another one inside (IPv4-mapped, 6to4, NAT64, Teredo) are judged by both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# The IANA special-purpose registry (RFC 6890) and what clouds put into public space. Written out, because
# `ipaddress.is_global` differs between Python releases and lets 64:ff9b::/96, 2002::/16 and 168.63.129.16 through.
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata address
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent
        "169.254.0.0/16",  # link-local; the metadata address of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata address
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """What may be reached besides the public internet, and what may not although it is public.

    `allow` and `deny` hold networks (`10.1.0.0/16`), addresses, host names (`crm.internal`) and wildcards for
    subdomains (`*.internal`). A denied network or name is out of reach whatever is allowed. An allowed name may resolve
    to any address that is not denied. Build it by `OutboundPolicy.read`.
    """

    allow_networks: tuple[Network, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    deny_hosts: tuple[str, ...] = ()

    @classmethod
    def read(cls, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> "OutboundPolicy":
        """Read the settings `outbound.allow` and `outbound.deny`. Raises ValueError for what is neither."""
        allow_networks, allow_hosts = _split(allow)
        deny_networks, deny_hosts = _split(deny)
        return cls(allow_networks, allow_hosts, deny_networks, deny_hosts)

    def refusal(self, host: str, address: str) -> str | None:
        """Return why `address`, reached as `host`, is out of reach, or None if it isn't."""
        name = _canonical(host)
        if _named(name, self.deny_hosts):
            return f"the host {name} is denied by the operator"
        ip = ip_address(address)
        if isinstance(ip, IPv6Address) and ip.scope_id is not None:
            return f"{address} is not a public address"
        forms = (ip, *_embedded(ip))
        if any(form in network for form in forms for network in self.deny_networks):
            return f"{address} is denied by the operator"
        if _named(name, self.allow_hosts):
            return None
        if all(_is_public(form) or any(form in network for network in self.allow_networks) for form in forms):
            return None
        return f"{address} is not a public address"


def _is_public(ip: Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def _embedded(ip: Address) -> Sequence[IPv4Address]:
    """Return the IPv4 addresses that packets for `ip` may end at."""
    if isinstance(ip, IPv4Address):
        return ()
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    if ip.sixtofour is not None:
        return (ip.sixtofour,)
    if ip.teredo is not None:
        return ip.teredo
    if any(ip in network for network in _NAT64) or (ip in _COMPATIBLE and int(ip) > 1):
        return (IPv4Address(int(ip) & 0xFFFFFFFF),)
    return ()


def _named(host: str, patterns: tuple[str, ...]) -> bool:
    return any(host.endswith(p[1:]) if p.startswith("*.") else host == p for p in patterns)


def _canonical(host: str) -> str:
    return host.rstrip(".").lower()


def _split(entries: Iterable[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in entries:
        text = entry.strip().strip("[]")
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            name = _canonical(text)
            labels = name.removeprefix("*.").split(".")
            if "/" in name or ":" in name or not all(label and label.replace("-", "a").isalnum() for label in labels):
                raise ValueError(f"{entry!r} is neither a network (10.0.0.0/8), an address nor a host name") from None
            hosts.append(name)
    return tuple(networks), tuple(hosts)
