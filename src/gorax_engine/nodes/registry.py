"""The node types that an engine knows, by their canonical names and aliases."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from gorax_engine.core.model import NodeKind, NodeSpec
from gorax_engine.core.structure import SCOPES
from gorax_engine.core.validation import nearest
from gorax_engine.errors import ConfigurationError
from gorax_engine.nodes.api import PureNode, TaskNode, WalkNode
from gorax_engine.nodes.control.catch import Catch
from gorax_engine.nodes.control.circuit_breaker import CircuitBreaker
from gorax_engine.nodes.control.condition import Condition
from gorax_engine.nodes.control.delay import Delay
from gorax_engine.nodes.control.event_trigger import EventTrigger
from gorax_engine.nodes.control.fail import Fail
from gorax_engine.nodes.control.finally_ import Finally
from gorax_engine.nodes.control.fork import Fork
from gorax_engine.nodes.control.formula import Formula
from gorax_engine.nodes.control.human_task import HumanTask
from gorax_engine.nodes.control.join import Join
from gorax_engine.nodes.control.loop import Loop
from gorax_engine.nodes.control.manual_trigger import ManualTrigger
from gorax_engine.nodes.control.parallel import Parallel
from gorax_engine.nodes.control.retry import Retry
from gorax_engine.nodes.control.schedule_trigger import ScheduleTrigger
from gorax_engine.nodes.control.stop import Stop
from gorax_engine.nodes.control.sub_workflow import SubWorkflow
from gorax_engine.nodes.control.switch import Switch
from gorax_engine.nodes.control.transform import Transform
from gorax_engine.nodes.control.try_scope import Try
from gorax_engine.nodes.control.wait_for_event import WaitForEvent
from gorax_engine.nodes.control.webhook_trigger import WebhookTrigger

WALKED = SCOPES | {"join"}
"""The types that `core.walk` carries out; no other may claim its kind."""

NodeType: TypeAlias = PureNode | TaskNode | WalkNode


class NodeRegistry:
    """An immutable set of node types; raises ConfigurationError when two claim one name."""

    def __init__(self, nodes: Iterable[NodeType]) -> None:
        self._nodes: dict[str, NodeType] = {}
        self._pure: dict[str, PureNode] = {}
        self._tasks: dict[str, TaskNode] = {}
        self._names: dict[str, str] = {}
        for node in nodes:
            self._add(node)
        self.specs: Mapping[str, NodeSpec] = MappingProxyType({name: node.spec for name, node in self._nodes.items()})

    def canonical(self, type_name: str) -> str | None:
        """Return the canonical name of a type or of one of its aliases, or None."""
        return self._names.get(type_name)

    def node(self, canonical: str) -> NodeType:
        """Return the node type of a canonical name; raises KeyError if there is none."""
        return self._nodes[canonical]

    def pure(self, canonical: str) -> PureNode:
        """Return the node type of a canonical name that is not a task; raises KeyError if there is none."""
        return self._pure[canonical]

    def task(self, canonical: str) -> TaskNode:
        """Return the task node type of a canonical name; raises KeyError if there is none."""
        return self._tasks[canonical]

    def nearest(self, type_name: str) -> tuple[str, ...]:
        """Return the canonical names of up to three known types whose names or aliases resemble `type_name`."""
        return tuple(dict.fromkeys(self._names[name] for name in nearest(type_name, self._names)))

    def _add(self, node: NodeType) -> None:
        spec = node.spec
        if spec.kind is NodeKind.TASK and isinstance(node, TaskNode):
            self._tasks[spec.name] = node
        elif spec.kind not in (NodeKind.TASK, NodeKind.WALK) and isinstance(node, PureNode):
            self._pure[spec.name] = node
        elif spec.kind is NodeKind.WALK and spec.name in WALKED:
            pass
        else:
            raise ConfigurationError(
                f"The node type `{spec.name}` is of kind {spec.kind}: one of kind task has `run`, any other `evaluate`."
            )
        for name in (spec.name, *spec.aliases):
            if name in self._names:
                raise ConfigurationError(
                    f"The node types `{self._names[name]}` and `{spec.name}` both claim the name `{name}`: "
                    "uninstall one of them."
                )
            self._names[name] = spec.name
        self._nodes[spec.name] = node


def builtin_nodes(tasks: Iterable[TaskNode] = ()) -> list[NodeType]:
    """Return the node types of the engine itself; `tasks` are those of kind task, which need resources to be made."""
    return [
        WebhookTrigger(),
        ScheduleTrigger(),
        ManualTrigger(),
        EventTrigger(),
        Transform(),
        Formula(),
        Condition(),
        Switch(),
        Delay(),
        WaitForEvent(),
        HumanTask(),
        Stop(),
        Fail(),
        Loop(),
        Parallel(),
        Try(),
        Catch(),
        Finally(),
        Retry(),
        CircuitBreaker(),
        Fork(),
        Join(),
        SubWorkflow(),
        *tasks,
    ]
