"""Reading nodes: lifts what Gorax keeps under `data`, and reads id, type, config and policies, with every fault.

Ids of nodes are text without control characters, blanks at an end, and the characters `.`, `[`, `]` and `:`, which
would make step paths and idempotency keys ambiguous. Ids of letters, digits, `_` and `-` can be written as
`steps.<id>`; for others there is a warning, for they need `steps["<id>"]`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from gorax_engine.core.breaker import BreakerPolicy
from gorax_engine.core.config_template import find_condition_site, find_sites
from gorax_engine.core.model import InDoubt, Json, NodeKind, NodeSpec, OnError, RetryPolicy
from gorax_engine.core.reading.document import MAX_ID, Origins, Report, fold_config, fold_keys
from gorax_engine.core.reading.drafts import DraftNode
from gorax_engine.core.reading.policies import (
    EVERY_ERROR,
    GORAX_RETRY_KEYS,
    RETRY_KEYS,
    canonical_retry,
    read_retry,
    read_timeout,
    read_word,
    unknown_key_message,
    warn_unknown,
)
from gorax_engine.core.schemas import Path, Place
from gorax_engine.core.validation import ConfigValidator

_T = TypeVar("_T")

_POLICY_KEYS: Final = ("retry", "timeout", "on_error", "in_doubt", "when", "circuit_breaker")
_NODE_KEYS: Final = ("id", "type", "name", "config", "data", *_POLICY_KEYS)
_LIFTED_KEYS: Final = ("name", "config", *_POLICY_KEYS)
_LIFTED_POLICIES: Final = ("retry", "retry_config", "timeout")
"""Keys of a config that are policies of the node, where the type has no such key of its own."""
_OTHER_KEYS: Final = {"schedule_trigger": {"cron_expression": "cron"}}
"""Keys of a config, by type, that are read as others."""
_EASY_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_FORBIDDEN_IN_ID: Final = re.compile(r"[.\[\]:\x00-\x1f\x7f]")


class NodeTypes(Protocol):
    """The node types that a definition may use (`nodes.registry.NodeRegistry`)."""

    @property
    def specs(self) -> Mapping[str, NodeSpec]:
        """The specs by canonical name."""

    def canonical(self, type_name: str) -> str | None:
        """Return the canonical name of a type or alias, or None."""

    def nearest(self, type_name: str) -> tuple[str, ...]:
        """Return the canonical names of known types that resemble `type_name`."""


class NodesReader:
    """Reads the nodes of one definition. Without `checked`, configs and expressions are taken as they are."""

    def __init__(
        self, types: NodeTypes, known_steps: frozenset[str], origins: Origins, report: Report, *, checked: bool
    ) -> None:
        self._types = types
        self._known_steps = known_steps
        self._origins = origins
        self._report = report
        self._checked = checked
        self._validators: dict[str, ConfigValidator] = {}

    def read(self, raw: Json, at: int) -> tuple[Json, DraftNode]:
        """Return the canonical node, and a draft of what could be understood of it."""
        draft = DraftNode(at)
        path: Path = ("nodes", at)
        if not isinstance(raw, dict):
            message = "A node must be an object with `id`, `type` and `config`."
            self._report.problem("invalid_definition", path, message)
            return raw, draft
        node = fold_keys(raw, _NODE_KEYS, path, self._origins)
        self._lift(node, path)
        self._read_id(node.get("id"), (*path, "id"), draft)
        self._read_type(node, path, draft)
        self._read_config(node, path, draft)
        self._read_policies(node, path, draft)
        self._read_when(node, path, draft)
        self._read_retry(node, path, draft)
        self._read_breaker(node, path, draft)
        return node, draft

    def _lift(self, node: dict[str, Json], path: Path) -> None:
        """Move what Gorax keeps under `data` to the node's top level."""
        if not isinstance(node.get("data"), dict):
            return
        data = fold_keys(node["data"], _LIFTED_KEYS, (*path, "data"), self._origins)
        for key in _LIFTED_KEYS:
            if key not in data:
                continue
            if node.get(key) is None:
                self._origins.move((*path, key), (*path, "data", key))
                node[key] = data.pop(key)
            elif data[key] == node[key]:
                del data[key]
            else:
                message = f"`data.{key}` is not used, for the node has a `{key}` of its own: remove one of them."
                self._report.warning("unknown_key", (*path, "data", key), message)
        if data:
            node["data"] = data
        else:
            del node["data"]

    def _read_id(self, value: Json, path: Path, draft: DraftNode) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
            self._report.problem("invalid_id", path, f"A node needs an `id`: text of 1 to {MAX_ID} characters.")
            return
        draft.id = value
        if _FORBIDDEN_IN_ID.search(value) or value != value.strip():
            message = (
                "An `id` must not have control characters, blanks at an end, or any of `.`, `[`, `]` and `:` in it."
            )
            self._report.problem("invalid_id", path, message)
        elif not _EASY_ID.fullmatch(value):
            message = f'This `id` can only be referred to as steps["{value}"]: letters, digits, _ and - are easier.'
            self._report.warning("awkward_id", path, message)

    def _read_type(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        name = node.get("type")
        if not isinstance(name, str):
            self._report.problem("unknown_type", (*path, "type"), "A node needs a `type`, such as `http_request`.")
            return
        canonical = self._types.canonical(name)
        if canonical is None:
            similar = ", ".join(f"`{known}`" for known in self._types.nearest(name))
            hint = f"the nearest known ones are {similar}." if similar else "see the list of node types."
            self._report.problem("unknown_type", (*path, "type"), f"There is no node type `{name[:100]}`: {hint}")
            return
        draft.type = node["type"] = canonical
        draft.spec = self._types.specs[canonical]

    def _read_config(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        path = (*path, "config")
        config = {} if node.get("config") is None else node["config"]
        node["config"] = config
        if not isinstance(config, dict):
            self._report.problem("invalid_config", path, "`config` must be an object.")
            return
        if draft.spec is None:
            draft.config = config
            return
        place = Place.root(draft.spec.schema)
        config = fold_keys(config, _LIFTED_POLICIES, path, self._origins)
        config = self._renamed(config, _OTHER_KEYS.get(draft.spec.name, {}), path)
        draft.config = node["config"] = config = fold_config(config, place, path, self._origins)
        known = place.at(config).keys()
        self._lift_policies(node, config, known, path)
        if draft.type == "retry":
            draft.config = node["config"] = config = self._read_rounds(config, path, draft)
        draft.is_valid = not self._checked or self._check_config(config, draft, draft.spec, path)
        if draft.is_valid:
            draft.outcomes = draft.spec.outcomes(config)

    def _renamed(self, config: dict[str, Json], names: Mapping[str, str], path: Path) -> dict[str, Json]:
        """Return a config with its keys under the names that its type knows; one that is there as such wins."""
        folded = fold_keys(config, list(names), path, self._origins)
        for other, name in names.items():
            if other in folded and name not in folded:
                self._origins.move((*path, name), (*path, other))
                folded[name] = folded.pop(other)
        return folded

    def _lift_policies(self, node: dict[str, Json], config: dict[str, Json], known: Sequence[str], path: Path) -> None:
        """Move policies that Gorax keeps in the config to the node itself."""
        for policy, key in zip(("retry", "retry", "timeout"), _LIFTED_POLICIES, strict=True):
            if key == "timeout" and node["type"] != "parallel":
                continue
            if node.get(policy) is None and config.get(key) is not None and key not in known:
                self._origins.move((*path[:-1], policy), (*path, key))
                node[policy] = config.pop(key)

    def _read_rounds(self, config: dict[str, Json], path: Path, draft: DraftNode) -> dict[str, Json]:
        """Read the config of a retry scope, which is the policy of its rounds."""
        config, mapped = canonical_retry(fold_keys(config, (*RETRY_KEYS, *GORAX_RETRY_KEYS), path, self._origins))
        for key, origin in mapped.items():
            self._origins.move((*path, key), (*path, origin))
        draft.rounds = read_retry(
            config, EVERY_ERROR, lambda key, message: self._report.problem("invalid_config", (*path, key), message)
        )
        return config

    def _check_config(self, config: dict[str, Json], draft: DraftNode, spec: NodeSpec, path: Path) -> bool:
        draft.sites = find_sites(config, spec.schema, self._known_steps)
        if spec.name not in self._validators:
            self._validators[spec.name] = ConfigValidator(spec.schema)
        sound = True
        templates = {site.path for site in draft.sites if not site.bound}
        for fault in self._validators[spec.name].faults(config, templates):
            if fault.unknown_key is None:
                sound = False
                self._report.problem("invalid_config", (*path, *fault.path), fault.message)
            else:
                where = f"the config of a {spec.name}"
                message = unknown_key_message(fault.unknown_key, fault.known_keys, where)
                self._report.warning("unknown_key", (*path, *fault.path), message)
        return sound

    def _read_policies(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        def read(key: str, reader: Callable[[Json, str], _T], default: _T) -> _T:
            if node.get(key) is None:
                return default
            try:
                return reader(node[key], key)
            except ValueError as error:
                self._report.problem("invalid_config", (*path, key), str(error))
                return default

        draft.name = read("name", _read_name, "")
        draft.timeout = read("timeout", read_timeout, None)
        draft.on_error = read("on_error", lambda value, key: read_word(value, OnError, key), OnError.FAIL)
        draft.in_doubt = read("in_doubt", lambda value, key: read_word(value, InDoubt, key), InDoubt.RETRY)

    def _read_when(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        when = node.get("when")
        if isinstance(when, bool):
            when = node["when"] = "true" if when else "false"
        if isinstance(when, str):
            draft.when = when
            draft.when_site = find_condition_site(when, self._known_steps) if self._checked else None
        elif when is not None:
            self._report.problem("invalid_config", (*path, "when"), "`when` must be an expression, written as text.")

    def _read_breaker(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        path = (*path, "circuit_breaker")
        if node.get("circuit_breaker") is None:
            return
        known = ("name", *BreakerPolicy.keys())
        if not isinstance(node["circuit_breaker"], dict):
            self._report.problem("invalid_config", path, "`circuit_breaker` must be an object; {} has the defaults.")
            return
        value = node["circuit_breaker"] = fold_keys(node["circuit_breaker"], known, path, self._origins)
        warn_unknown(value, known, path, "a circuit breaker", self._report)
        fault = _fault_of_breaker(value)
        if fault is not None:
            self._report.problem("invalid_config", (*path, fault[0]), fault[1])
        elif draft.spec is not None and draft.spec.kind is not NodeKind.TASK:
            message = "Only nodes that act on the outside have a circuit breaker: use the scope for others."
            self._report.problem("invalid_config", path, message)
        draft.circuit_breaker = value

    def _read_retry(self, node: dict[str, Json], path: Path, draft: DraftNode) -> None:
        path = (*path, "retry")
        if node.get("retry") is None:
            return
        if not isinstance(node["retry"], dict):
            self._report.problem("invalid_config", path, "`retry` must be an object, such as {max_attempts: 3}.")
            return
        folded = fold_keys(node["retry"], (*RETRY_KEYS, *GORAX_RETRY_KEYS), path, self._origins)
        retry, mapped = canonical_retry(folded)
        for key, origin in mapped.items():
            self._origins.move((*path, key), (*path, origin))
        node["retry"] = retry
        for key in retry:
            if key in GORAX_RETRY_KEYS:
                self._report.problem("invalid_config", (*path, key), f"`{key}` has a value of a wrong type.")
        warn_unknown(retry, (*RETRY_KEYS, *GORAX_RETRY_KEYS), path, "a retry policy", self._report)
        default = RetryPolicy() if draft.spec is None else draft.spec.retry
        draft.retry = read_retry(
            retry, default, lambda key, message: self._report.problem("invalid_config", (*path, key), message)
        )


def _fault_of_breaker(value: dict[str, Json]) -> tuple[str, str] | None:
    """Return the key that is wrong in a circuit breaker's config, and why."""
    bounds = {"max_failures": 10_000, "sliding_window_size": 10_000, "timeout_ms": 86_400_000, "max_requests": 1_000}
    for key, most in bounds.items():
        number = value.get(key)
        if number is not None and not (type(number) is int and 1 <= number <= most):
            return key, f"`{key}` must be a whole number from 1 to {most:,}."
    threshold = value.get("failure_threshold")
    if threshold is not None and not (type(threshold) in (int, float) and 0 < threshold <= 1):
        return "failure_threshold", "`failure_threshold` must be a number above 0, up to 1."
    if type(value.get("enabled", True)) is not bool:
        return "enabled", "`enabled` must be true or false."
    name = value.get("name")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_ID):
        return "name", f"`name` must be text of 1 to {MAX_ID} characters."
    return None


def _read_name(value: Json, key: str) -> str:
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    raise ValueError(f"`{key}` must be text of up to {MAX_ID} characters.")
