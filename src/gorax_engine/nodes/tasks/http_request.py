"""The node type `http_request`: asks an HTTP server, page by page if need be, and keeps what it answered."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.policies import classify
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    BoundExpression,
    Classification,
    Completed,
    ExpressionError,
    Failed,
    Instant,
    Json,
    Micros,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)
from gorax_engine.nodes.credentials import given_credential, secret_field
from gorax_engine.nodes.http_content import NotJson, first_values, form_values, header, read_content, write_content
from gorax_engine.nodes.outbound import Answer, OutboundClient
from gorax_engine.nodes.outbound_errors import OutboundError
from gorax_engine.nodes.outbound_request import Call, join, origin, parse_url, without_secrets
from gorax_engine.nodes.tasks.http_request_schema import SCHEMA

MAX_PAGES: Final = 1_000
"""How many pages are asked for where the config sets no limit; more fail the step, since data would be missing."""

_CREDENTIAL_TYPES: Final = ("basic_auth", "bearer_token", "api_key", "oauth2")
_RANGE: Final = re.compile(r"([1-5][0-9]{2})(?:\s*-\s*([1-5][0-9]{2}))?")
_MISSING: Final = "missing_path"


class HttpRequest:
    """Sends requests through the shared outbound client."""

    spec: Final = NodeSpec(
        name="http_request",
        kind=NodeKind.TASK,
        aliases=("action:http", "http"),
        title="HTTP request",
        description="Sends an HTTP request; the output is {status_code, headers, body}, and `pages` with pagination.",
        schema=SCHEMA,
        retry=OUTSIDE_RETRY,
    )

    def __init__(self, client: OutboundClient) -> None:
        self._client = client

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            call = _call(config, context.idempotency_key)
            if "pagination" in config:
                return Completed(await self._pages(call, config, context))
            return Completed((await self._exchange(call, config, context)).response)
        except _Failure as failure:
            return Failed(failure.error)
        except OutboundError as error:
            return Failed(error.step_error())
        except ExpressionError as error:
            return Failed(StepError(error.code, error.message))

    async def _exchange(self, call: Call, config: Mapping[str, Json], context: NodeContext) -> "_Page":
        """Send one request and return its response; raises _Failure for a status that is no success."""
        answer = await self._client.send(call)
        succeeded = _is_success(answer.status, config.get("success"))
        # What a failing server sends is kept as it is: often an error page instead of the JSON that was due.
        mode = config.get("response", "auto") if succeeded else "auto"
        headers = first_values(answer.headers)
        try:
            body = read_content(answer.body, headers.get("content-type", ""), mode)
        except NotJson as error:
            message = f"{origin(parse_url(answer.url))} answered {answer.status} with a body that is not JSON: {error}"
            raise _Failure("invalid_response", message, details={"http_status_code": answer.status}) from None
        response: dict[str, Json] = {"status_code": answer.status, "headers": headers, "body": body}
        if not succeeded:
            raise _status_failure(call, answer, response, context.now)
        return _Page(response, answer.url, len(answer.body))

    async def _pages(self, call: Call, config: Mapping[str, Json], context: NodeContext) -> Json:
        """Ask page by page and return the last response with the items of all pages as its body."""
        settings = config["pagination"]
        asked = settings.get("max_pages")
        most = asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else MAX_PAGES
        items: list[Json] = []
        size = 0
        first = call
        proof: dict[str, Json] = {}
        _authenticate(_object("auth", config.get("auth")), {}, proof)
        for number in range(1, most + 1):
            page = await self._exchange(call, config, context)
            size += page.size
            if size > self._client.limits.max_body:
                message = f"The pages are larger than {self._client.limits.max_body} bytes together."
                raise _Failure("response_too_large", message)
            items += _items(settings["items"], page.response)
            following = _next_url(settings, page, first.url)
            if following is None or number == asked:
                return {**page.response, "body": items, "pages": number}
            call = _next_call(first, following, number + 1, context.idempotency_key, proof)
        raise _Failure("too_many_pages", f"There are more than {MAX_PAGES} pages; set `pagination.max_pages`.")


@dataclass(frozen=True, slots=True)
class _Page:
    """A response, where it came from in the end, and the size of its body in bytes."""

    response: dict[str, Json]
    url: str
    size: int


class _Failure(Exception):
    """The step fails with `error`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        classification: Classification = Classification.PERMANENT,
        details: Mapping[str, Json] | None = None,
        retry_after: Micros | None = None,
    ) -> None:
        super().__init__(message)
        self.error = StepError(code, message, classification, details or {}, retry_after)


def _call(config: Mapping[str, Json], key: str) -> Call:
    """Read a rendered config; raises _Failure for values of a wrong type and OutboundError for a bad URL."""
    headers = _headers(config.get("headers"))
    query = dict(_object("query", config.get("query")))
    _authenticate(_object("auth", config.get("auth")), headers, query)
    if header(headers, "idempotency-key") is None:
        headers["Idempotency-Key"] = key
    try:
        body = None
        if config.get("body") is not None:
            content_type = header(headers, "content-type")
            body, chosen = write_content(config["body"], content_type)
            if content_type is None:
                headers["Content-Type"] = chosen
        timeout = parse_duration(config.get("timeout", 30))
        url = _with_query(_text("url", config["url"]), query)
    except (Unencodable, ValueError) as error:
        raise _Failure("type_error", f"The request can't be made: {error}") from None
    return Call(
        method=_text("method", config.get("method", "GET")),
        url=url,
        headers=headers,
        body=body,
        timeout=timeout,
        follow_redirects=config.get("follow_redirects", True) is not False,
    )


def _text(field: str, value: Json) -> str:
    if not isinstance(value, str):
        raise _Failure("type_error", f"`{field}` must be text.")
    return value


def _object(field: str, value: Json) -> Mapping[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Failure("type_error", f"`{field}` must be an object.")
    return value


def _headers(value: Json) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, item in _object("headers", value).items():
        if isinstance(item, dict | list):
            raise _Failure("type_error", f"The header {name} must be text or a number.")
        headers.update((name, text) for text in form_values(item))
    return headers


def _authenticate(auth: Mapping[str, Json], headers: dict[str, str], query: dict[str, Json]) -> None:
    """Add the proof of identity, from `{credential}`, `{basic: {...}}` or `{type, username, ...}` (Gorax)."""
    if "credential" in auth:
        _authenticate(_credential_auth(auth), headers, query)
        return
    kind = auth.get("type") or next((kind for kind in ("basic", "bearer", "api_key") if kind in auth), "none")
    nested = auth.get(kind)
    values = nested if isinstance(nested, dict) else auth
    if kind == "basic":
        user = _text("auth.username", values.get("username", ""))
        password = _text("auth.password", values.get("password", ""))
        _set(headers, "Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode())
    elif kind == "bearer":
        token = nested if isinstance(nested, str) else values.get("token")
        _set(headers, "Authorization", "Bearer " + _text("auth.token", token))
    elif kind == "api_key":
        secret = _text("auth.api_key", values.get("api_key", values.get("key")))
        if "query" in values:
            query[_text("auth.query", values["query"])] = secret
        else:
            _set(headers, _text("auth.header", values.get("header", "X-API-Key")), secret)
    elif kind != "none":
        raise _Failure("type_error", "`auth.type` must be none, basic, bearer or api_key.")


def _credential_auth(auth: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return what `auth` would be with the fields of its credential written out."""
    credential = given_credential(auth["credential"], _CREDENTIAL_TYPES)
    match credential["type"]:
        case "basic_auth":
            user = credential.get("username", "")
            return {"basic": {"username": user, "password": credential.get("password", "")}}
        case "bearer_token":
            return {"bearer": {"token": secret_field(credential, "token")}}
        case "oauth2":
            return {"bearer": {"token": secret_field(credential, "access_token")}}
        case _:
            # Where the key goes may be said by the workflow; the credential knows it else.
            places = auth if "header" in auth or "query" in auth else credential
            place = {name: places[name] for name in ("header", "query") if places.get(name) is not None}
            return {"api_key": {"key": secret_field(credential, "key", "api_key"), **place}}


def _set(headers: dict[str, str], name: str, value: str) -> None:
    for known in [key for key in headers if key.lower() == name.lower()]:
        del headers[known]
    headers[name] = value


def _with_query(url: str, query: Mapping[str, Json]) -> str:
    """Append parameters and leave those that the URL has; the fragment is dropped."""
    url = url.partition("#")[0]
    pairs = [
        f"{quote(name, safe='')}={quote(text, safe='')}" for name, item in query.items() for text in form_values(item)
    ]
    if not pairs:
        return url
    separator = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return url + separator + "&".join(pairs)


def _is_success(status: int, ranges: Json) -> bool:
    if ranges is None:
        return 200 <= status <= 399
    for item in ranges if isinstance(ranges, list) else [ranges]:
        match = _RANGE.fullmatch(str(item))
        if match is None:
            raise _Failure("type_error", '`success` must list codes and ranges such as [200, "300-399"].')
        if int(match[1]) <= status <= int(match[2] or match[1]):
            return True
    return False


def _status_failure(call: Call, answer: Answer, response: Json, now: Instant) -> _Failure:
    where = origin(parse_url(answer.url))
    return _Failure(
        "http_status",
        f"{call.method.upper()} {where} answered {answer.status} {answer.reason}".rstrip() + ".",
        classification=classify("http_status", answer.status),
        details={"http_status_code": answer.status, "response": response},
        retry_after=_retry_after(response["headers"], now),
    )


def _retry_after(headers: Mapping[str, str], now: Instant) -> Micros | None:
    """Read `Retry-After`: seconds, or a date, which is counted from the server's own clock if it says what that is."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return int(value) * SECOND
    due = _http_date(value)
    if due is None:
        return None
    served = _http_date(headers.get("date", ""))
    return max(due - (now if served is None else served), 0)


def _http_date(value: str) -> Instant | None:
    try:
        return int(parsedate_to_datetime(value).timestamp()) * SECOND
    except (ValueError, TypeError, OverflowError):
        return None


def _items(expression: BoundExpression, response: Json) -> list[Json]:
    items = expression.evaluate({"response": response})
    if not isinstance(items, list):
        raise _Failure("type_error", "`pagination.items` must give a list.")
    return items


def _next_url(settings: Mapping[str, Json], page: _Page, first_url: str) -> str | None:
    """Return where the next page is, or None after the last one: a missing, null, false or empty value ends it."""
    cursor = settings.get("cursor")
    expression: BoundExpression = settings["next"] if cursor is None else cursor["from"]
    try:
        value = expression.evaluate({"response": page.response})
    except ExpressionError as error:
        if error.code != _MISSING:
            raise
        return None
    if value is None or value is False or value == "":
        return None
    if cursor is None:
        return str(join(parse_url(page.url), _text("pagination.next", value)))
    return _replace_parameter(first_url, _text("pagination.cursor.param", cursor["param"]), value)


def _replace_parameter(url: str, name: str, value: Json) -> str:
    base, _, query = url.partition("?")
    encoded = quote(name, safe="")
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in (name, encoded)]
    return _with_query(base + ("?" + "&".join(kept) if kept else ""), {name: value})


def _next_call(first: Call, url: str, number: int, key: str, proof: Mapping[str, Json]) -> Call:
    """Return the request for another page. Each page is a request of its own, so that each has its own key.

    `proof` are the query parameters of `auth`, which links to the next page mostly leave out.
    """
    headers = dict(first.headers)
    if headers.get("Idempotency-Key") == key:
        headers["Idempotency-Key"] = f"{key}:page-{number}"
    call = replace(first, url=url, headers=headers)
    if origin(parse_url(url)) != origin(parse_url(first.url)):
        return without_secrets(call)
    for name, secret in proof.items():
        call = replace(call, url=_replace_parameter(call.url, name, secret))
    return call
