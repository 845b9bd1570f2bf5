"""Addresses for the protocols that the HTTP client doesn't speak: resolved once, judged all, and only those dialled."""

import socket
from collections.abc import Sequence

from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import Resolve
from gorax_engine.nodes.outbound_errors import ConnectionFailed, OutboundDenied


async def judged_addresses(policy: OutboundPolicy, resolve: Resolve, host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, in the order in which to try them, for the caller to dial as they are.

    Raises ConnectionFailed where the host can't be resolved, and OutboundDenied where any address is out of reach.
    """
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError) as error:
        transient = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise ConnectionFailed(f"The host {host} can't be resolved.", reason="dns", transient=transient) from error
    for address in addresses:
        if (reason := policy.refusal(host, address)) is not None:
            raise OutboundDenied(f"{host} can't be reached from workflows: {reason}.")
    if not addresses:
        raise ConnectionFailed(f"The host {host} has no address.", reason="dns", transient=False)
    return addresses
