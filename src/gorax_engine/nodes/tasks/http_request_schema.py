"""The JSON Schema of the config of `http_request`."""

from typing import Final

from gorax_engine.core.model import Json

_OVER_RESPONSE: Final[Json] = {
    "type": "string",
    "x-gorax": "expression",
    "x-gorax-locals": ["response"],
    "minLength": 1,
}
_BASIC: Final[Json] = {"username": {"type": "string"}, "password": {"type": "string"}}
_API_KEY: Final[Json] = {
    "key": {"type": "string", "description": "The key."},
    "header": {"type": "string", "description": "The header that carries it; X-API-Key if neither is given."},
    "query": {"type": "string", "description": "The query parameter that carries it."},
}

_AUTH: Final[Json] = {
    "type": "object",
    "x-gorax-secrets": True,
    "properties": {
        "type": {"enum": ["none", "basic", "bearer", "api_key"], "description": "The kind, where it isn't a key."},
        **_BASIC,
        "token": {"type": "string"},
        "header": _API_KEY["header"],
        "query": _API_KEY["query"],
        "basic": {"type": "object", "properties": _BASIC, "additionalProperties": False},
        "bearer": {
            "type": ["object", "string"],
            "properties": {"token": {"type": "string"}},
            "required": ["token"],
            "additionalProperties": False,
        },
        "api_key": {
            "type": ["object", "string"],
            "properties": {**_API_KEY, "api_key": {"type": "string"}},
            "additionalProperties": False,
        },
        "credential": {
            "type": "string",
            "x-gorax": "credential",
            "minLength": 1,
            "description": "A credential: basic_auth, bearer_token, api_key (with `header` or `query`) or oauth2.",
        },
    },
    "additionalProperties": False,
    "description": "Proof of identity: {credential: name}, or {basic: {username, password}}, {bearer: {token}} "
    "or {api_key: {key, header}}.",
}

_PAGINATION: Final[Json] = {
    "type": "object",
    "properties": {
        "items": {**_OVER_RESPONSE, "description": "The list of a page's items: an expression over `response`."},
        "next": {**_OVER_RESPONSE, "description": "The URL of the next page; the end where it is null or missing."},
        "cursor": {
            "type": "object",
            "properties": {
                "param": {"type": "string", "minLength": 1, "description": "The query parameter to set."},
                "from": {**_OVER_RESPONSE, "description": "Its value for the next page; the end where it is null."},
            },
            "required": ["param", "from"],
            "additionalProperties": False,
        },
        "max_pages": {"type": "integer", "minimum": 1, "description": "Where to stop, though there may be more."},
    },
    "required": ["items"],
    "oneOf": [{"required": ["next"]}, {"required": ["cursor"]}],
    "additionalProperties": False,
    "description": "Asks for page after page; the output's `body` is all items, `pages` their number.",
}

_STATUS: Final[Json] = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": r"^[1-5][0-9]{2}( *- *[1-5][0-9]{2})?$"},
    ]
}

SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "method": {
            "type": "string",
            "pattern": "^[A-Za-z]+$",
            "default": "GET",
            "description": "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS or another one.",
        },
        "url": {
            "type": "string",
            "x-gorax": "url",
            "x-gorax-secrets": True,
            "minLength": 1,
            "description": "Where to send it: http:// or https://, without credentials.",
        },
        "headers": {
            "type": "object",
            "x-gorax-secrets": True,
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "description": "Headers by name. `Idempotency-Key` is the step's key unless it is given here.",
        },
        "query": {
            "type": "object",
            "x-gorax-secrets": True,
            "description": "Query parameters by name; a list is repeated, null is left out.",
        },
        "body": {
            "x-gorax-secrets": True,
            "description": "JSON, or text; an object is sent as a form if the Content-Type header says so.",
        },
        "timeout": {
            "type": ["string", "number"],
            "format": "gorax-duration",
            "minimum": 0,
            "default": 30,
            "description": "For each request with its redirects and its body, at most 10 minutes.",
        },
        "auth": _AUTH,
        "follow_redirects": {"type": "boolean", "default": True, "description": "Up to three."},
        "success": {
            "anyOf": [{"type": "array", "items": _STATUS, "minItems": 1}, _STATUS],
            "description": "Which status codes and ranges are a success; 200-399 if it is left out.",
        },
        "response": {
            "enum": ["auto", "json", "text"],
            "default": "auto",
            "description": "How the body is read; `auto` goes by its content type, `json` fails if it isn't JSON.",
        },
        "pagination": _PAGINATION,
    },
    "required": ["url"],
    "additionalProperties": False,
}
