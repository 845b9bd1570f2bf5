"""Requests before they are sent: what may be sent, how URLs are read, and what a redirect leaves of a request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from yarl import URL

from gorax_engine.core.model import SECOND, Micros
from gorax_engine.nodes.outbound_errors import InvalidRequest, InvalidUrl

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_URL_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENCODED_URL: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_FRAMING_HEADERS: Final = frozenset(
    {"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
# Custom headers carry keys more often than not, so that only these cross to another origin.
_CROSS_ORIGIN_HEADERS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `timeout` is for the whole exchange with redirects and body, in microseconds."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: Micros = 30 * SECOND
    follow_redirects: bool = True


def checked(call: Call) -> Call:
    """Return the call as it can be sent, without a Content-Length of the user's; raises InvalidRequest."""
    if not _TOKEN.fullmatch(call.method):
        raise InvalidRequest("The method is not a word such as GET or POST.")
    headers = {}
    for name, value in call.headers.items():
        if not _TOKEN.fullmatch(name):
            raise InvalidRequest(f"The header name {name[:80]!r} holds characters that a name can't have.")
        if _CONTROL.search(value):
            raise InvalidRequest(f"The header {name} holds a line break or another control character.")
        lower = name.lower()
        if lower in _FRAMING_HEADERS:
            raise InvalidRequest(f"The header {name} is the client's own affair; leave it out.")
        if lower != "content-length":
            headers[name] = value
    return Call(call.method.upper(), call.url, headers, call.body, call.timeout, call.follow_redirects)


def parse_url(text: str) -> URL:
    """Read an absolute http(s) URL. What is percent-encoded already goes out as it stands. Raises InvalidUrl."""
    if _URL_CONTROL.search(text):
        raise InvalidUrl("The URL holds a line break or another control character.")
    text = text.strip(" ")
    try:
        url = URL(text, encoded=_ENCODED_URL.fullmatch(text) is not None)
        port, host = url.port, url.raw_host
    except ValueError:
        raise InvalidUrl("The URL can't be read; it should look like https://example.com/path.") from None
    if url.scheme not in ("http", "https"):
        raise InvalidUrl("Only http:// and https:// URLs can be called.")
    if not host or not port or re.search(r"[\s\\%]", host):
        raise InvalidUrl("The URL names no host, or a bad host or port; it should look like https://example.com/path.")
    if url.user is not None or url.password is not None:
        raise InvalidUrl("The URL holds credentials; use `auth` instead.")
    return url


def join(base: URL, reference: str) -> URL:
    """Return where a reference (a Location, a next page) points from `base`; raises InvalidUrl."""
    if _URL_CONTROL.search(reference):
        raise InvalidUrl("The URL holds a line break or another control character.")
    try:
        target = str(base.join(URL(reference, encoded=_ENCODED_URL.fullmatch(reference) is not None)))
    except ValueError:
        raise InvalidUrl("The URL that the answer points to can't be read.") from None
    return parse_url(target)


def origin(url: URL) -> str:
    """Return scheme, host and port: what may be named in errors, and what cookies and keys belong to."""
    return f"{url.scheme}://{(url.host_subcomponent or '').lower().rstrip('.')}:{url.port}"


def redirected(call: Call, status: int, *, same_origin: bool) -> Call:
    """Return what is left of a call after a redirect: a POST may become a GET, and secrets stay with their origin."""
    if (status == 303 and call.method != "HEAD") or (status in (301, 302) and call.method == "POST"):
        headers = {name: value for name, value in call.headers.items() if name.lower() != "content-type"}
        call = replace(call, method="GET", body=None, headers=headers)
    return call if same_origin else without_secrets(call)


def without_secrets(call: Call) -> Call:
    """Return the call without headers that may carry a secret or a key: what another origin may see."""
    headers = {name: value for name, value in call.headers.items() if name.lower() in _CROSS_ORIGIN_HEADERS}
    return replace(call, headers=headers)
