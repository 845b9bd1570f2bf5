"""What the config of a `webhook_trigger` may say."""

from typing import Final

from gorax_engine.core.ip_ranges import MAX_RANGES
from gorax_engine.nodes.api import Json

MAX_FILTERS: Final = 50

_METHOD: Final[Json] = {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], "x-gorax": "literal"}
_FILTER: Final[Json] = {
    "type": "object",
    "properties": {
        "field_path": {
            "type": "string",
            "x-gorax": "literal",
            "description": "A JSONPath into the body, `headers.<name>`, `query.<name>` or `method`.",
        },
        "operator": {"type": "string", "x-gorax": "literal", "description": "How the value there is compared."},
        "value": {"$ref": "#/$defs/value", "description": "With what."},
        "logic_group": {
            "type": "integer",
            "minimum": 0,
            "maximum": 10_000,
            "default": 0,
            "description": "Filters of one group are alternatives; all groups must hold.",
        },
    },
    "required": ["field_path", "operator"],
    "additionalProperties": False,
}

SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "path": {
            "type": "string",
            "x-gorax": "literal",
            "minLength": 1,
            "maxLength": 255,
            "description": "The path below /webhooks/; random if it is left out.",
        },
        "method": {**_METHOD, "description": "The one HTTP method that is accepted."},
        "methods": {
            "type": "array",
            "items": _METHOD,
            "minItems": 1,
            "description": "The HTTP methods that are accepted.",
        },
        "auth_type": {
            "enum": ["none", "secret", "basic", "bearer"],
            "x-gorax-aliases": {"signature": "secret", "api_key": "bearer"},
            "x-gorax": "literal",
            "default": "none",
            "description": "How a caller proves who it is; `signature` means secret, `api_key` means bearer.",
        },
        "signature_scheme": {
            "enum": ["gorax", "github", "standard", "stripe", "slack"],
            "x-gorax": "literal",
            "default": "gorax",
            "description": "How requests are signed, where auth_type is secret.",
        },
        "secret": {
            "type": "string",
            "x-gorax": "literal",
            "minLength": 1,
            "x-gorax-message": "`secret` must be text, and not empty.",
            "description": "The secret of the proof as it is, for basic `username:password`; it is stored sealed. "
            "Without it, set one with `gorax webhook rotate-secret`.",
        },
        "timestamp_tolerance": {
            "type": "integer",
            "minimum": 1,
            "maximum": 86_400,
            "default": 300,
            "description": "How far a signed time may be from now, in seconds.",
        },
        "allowed_ips": {
            "type": "array",
            "items": {"type": "string", "x-gorax": "literal"},
            "maxItems": MAX_RANGES,
            "x-gorax-message": f"`allowed_ips` must be a list of {MAX_RANGES} addresses and networks at most.",
            "description": "IP addresses and networks that requests may come from; none means from anywhere.",
        },
        "max_body_bytes": {
            "type": "integer",
            "minimum": 1,
            "maximum": 2**31 - 1,
            "description": "The largest body that is accepted, if that is less than the server's own limit.",
        },
        "rate_limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000_000,
            "description": "Deliveries that are accepted in a minute; without it, no limit but the tenant's.",
        },
        "dedupe_header": {
            "type": "string",
            "x-gorax": "literal",
            "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,255}$",
            "x-gorax-message": "`dedupe_header` must be the name of an HTTP header.",
            "description": "The header by whose value a delivery is known, so that a second one starts nothing.",
        },
        "dedupe_path": {
            "type": "string",
            "x-gorax": "literal",
            "description": "The same by a JSONPath into the body.",
        },
        "response_mode": {
            "enum": ["accepted", "result"],
            "x-gorax": "literal",
            "default": "accepted",
            "description": "`accepted`: the caller is answered as soon as the run is stored; `result`: with the run's "
            "output, if it ends within 30 s.",
        },
        "priority": {
            "type": "integer",
            "minimum": 0,
            "maximum": 100,
            "default": 1,
            "description": "The priority of the runs; higher ones are begun first.",
        },
        "description": {
            "type": "string",
            "x-gorax": "literal",
            "maxLength": 10_000,
            "description": "A text for people.",
        },
        "filters": {
            "type": "array",
            "items": _FILTER,
            "maxItems": MAX_FILTERS,
            "x-gorax-message": f"`filters` must be a list of {MAX_FILTERS} filters at most.",
            "description": "Which requests start a run; without filters all do.",
        },
        "auth": {
            "not": {},
            "description": "Not supported: see `auth_type` and `secret`.",
            "x-gorax-message": "Name the kind of proof as `auth_type` and its secret as `secret`.",
        },
    },
    "additionalProperties": False,
    "$defs": {
        "value": {
            "x-gorax": "literal",
            "items": {"$ref": "#/$defs/value"},
            "additionalProperties": {"$ref": "#/$defs/value"},
        },
    },
}
