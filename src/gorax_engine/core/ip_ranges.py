"""IP addresses and networks as users write them."""

from ipaddress import ip_address, ip_network
from typing import Final

MAX_RANGES: Final = 100


def normal_range(text: str) -> str:
    """Return an address or network in CIDR notation as Postgres writes it.

    Raises ValueError, with a sentence, for what is neither, or has bits set right of its mask.
    """
    try:
        return str(ip_network(text if "/" in text else ip_address(text)))
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"`{text[:60]}` is no IP address or network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32."
        ) from None
    raise ValueError(f"`{text[:60]}` has bits set right of its mask; `{meant}` is the network that it lies in.")
