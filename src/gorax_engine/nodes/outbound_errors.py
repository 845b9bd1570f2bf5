"""What can go wrong between a workflow and the outside, each with a stable code.

OutboundError
├── InvalidUrl          not an http(s) URL, or one with credentials in it
├── InvalidRequest      a method or header that can't be sent
├── OutboundDenied      the address is not public and not allowed
├── ConnectionFailed    refused, reset, dns, tls, unreachable, closed (`reason`)
├── OutboundTimeout     the whole exchange took too long
├── TooManyRedirects
├── ResponseTooLarge    in headers, on the wire or inflated
└── InvalidResponse     not HTTP, or not what its Content-Encoding says
"""

from collections.abc import Mapping

from gorax_engine.core.model import Classification, Json, StepError
from gorax_engine.core.policies import classify


class OutboundError(Exception):
    """Base: an exchange that didn't come to a response. The message never holds a path, a query or a header."""

    code = "outbound_failed"

    def __init__(self, message: str, *, details: Mapping[str, Json] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Json] = details or {}

    @property
    def classification(self) -> Classification:
        return classify(self.code)

    def step_error(self) -> StepError:
        """Return the error as that of a step."""
        return StepError(self.code, self.message, self.classification, self.details)


class InvalidUrl(OutboundError):
    code = "invalid_url"


class InvalidRequest(OutboundError):
    code = "invalid_request"


class OutboundDenied(OutboundError):
    code = "outbound_denied"


class ConnectionFailed(OutboundError):
    """`reason` is one of refused, reset, dns, tls, unreachable, closed."""

    code = "connection_failed"

    def __init__(self, message: str, *, reason: str, transient: bool = True) -> None:
        super().__init__(message, details={"reason": reason})
        self.reason = reason
        self._transient = transient

    @property
    def classification(self) -> Classification:
        return Classification.TRANSIENT if self._transient else Classification.PERMANENT


class OutboundTimeout(OutboundError):
    code = "timeout"


class TooManyRedirects(OutboundError):
    code = "too_many_redirects"


class ResponseTooLarge(OutboundError):
    code = "response_too_large"


class InvalidResponse(OutboundError):
    code = "invalid_response"
