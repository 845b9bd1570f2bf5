"""The rules of "How a graph is walked", one by one, on small graphs."""

from dataclasses import replace
from typing import Any

import pytest

from gorax_engine.core.commands import CancelStep, Command, EndRun, SkipStep, StartStep
from gorax_engine.core.events import RunCancelled, RunFailed, RunStarted, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.model import (
    SECOND,
    Classification,
    Definition,
    Edge,
    Json,
    Missing,
    Node,
    OnError,
    RetryPolicy,
    RetryStrategy,
    StepError,
    StepKey,
    WorkflowSettings,
)
from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.states import ExecutionState
from gorax_engine.core.walk import initial, proceed, scope_of
from tests.core.walk.graphs import SPECS

BROKEN = StepError("broken", "It broke.")
BUSY = StepError("timeout", "It took too long.", Classification.TRANSIENT)
DEFAULT = WorkflowSettings()


def plan_of(edges: str, output: Json = None, settings: WorkflowSettings = DEFAULT, **nodes: dict[str, Any]) -> Plan:
    """A plan from `a>b a-true>c`: `t` is the trigger, `if` a condition, all others plain; `nodes` says what differs."""
    read = [edge.partition(">") for edge in edges.split()]
    pairs = [(*source.partition("-")[::2], target) for source, _, target in read]
    names = dict.fromkeys(name for source, _, target in pairs for name in (source, target))
    definition = Definition(
        tuple(
            Node(
                name,
                {"t": "trigger", "t2": "trigger", "if": "choice"}.get(name, "plain"),
                name,
                {"labels": ["true", "false"]},
                **nodes.get(name, {}),
            )
            for name in names
        ),
        tuple(
            Edge(f"e{number}", source, target, label or None) for number, (source, label, target) in enumerate(pairs)
        ),
        output,
        output is not None,
        settings,
    )
    return compile_plan(definition, SPECS)


class Walker:
    """A run, told in short: every call returns what is to be done, as words."""

    def __init__(self, plan: Plan, seed: bytes = b"run", trigger: str = "t") -> None:
        self.plan = plan
        self.state = initial(plan, {"trigger": {"n": 1}}, seed)
        self.last: list[Command] = []
        self.first = self.tell(RunStarted(trigger, {}, 10))

    def tell(self, *events: Any) -> list[str]:
        self.last = proceed(self.plan, self.state, events)
        return [_word(command) for command in self.last]

    def ok(
        self, node: str, at: int = 20, output: Json = None, outcome: str | None = None, stop: bool = False
    ) -> list[str]:
        return self.tell(StepSucceeded(StepKey(node), output, at, outcome, stop))

    def fail(self, node: str, at: int = 20, error: StepError = BROKEN, attempt: int = 1) -> list[str]:
        return self.tell(StepFailed(StepKey(node), attempt, error, at))

    @property
    def end(self) -> EndRun:
        end = self.last[-1]
        assert isinstance(end, EndRun)
        return end


def _word(command: Command) -> str:
    match command:
        case StartStep(step=step, attempt=1):
            return f"start {step.node}"
        case StartStep(step=step, attempt=attempt, at=at):
            return f"start {step.node} #{attempt} at {at}"
        case SkipStep(step=step):
            return f"skip {step.node}"
        case CancelStep(step=step):
            return f"cancel {step.node}"
        case EndRun(status=status):
            return status.value
        case _:
            raise AssertionError(command)


# --- edges ---


def test_a_run_starts_at_its_trigger_and_other_roots_are_skipped() -> None:
    walk = Walker(plan_of("t>a t2>b b>c a>c"))
    assert walk.first == ["start t", "skip t2", "skip b"]
    assert walk.ok("t") == ["start a"]
    assert walk.ok("a") == ["start c"]


def test_a_trigger_that_others_lead_to_runs_once() -> None:
    """Another trigger leads to the one that fired, by itself and through a node: that one runs, and once."""
    walk = Walker(plan_of("t2>t t2>a a>t t>b"))
    assert walk.first == ["start t", "skip t2", "skip a"]
    assert walk.ok("t") == ["start b"]
    assert walk.ok("b") == ["completed"]


def test_a_node_is_ready_when_every_incoming_edge_is_decided() -> None:
    walk = Walker(plan_of("t>a t>b a>c b>c"))
    assert walk.ok("t") == ["start a", "start b"]
    assert walk.ok("b", 30) == []
    assert walk.ok("a", 40) == ["start c"]
    assert walk.last == [StartStep(StepKey("c"), 1, 40)], "its moment is that of what made it ready"


def test_a_node_runs_if_one_edge_is_live_and_dead_paths_are_skipped() -> None:
    """A node after a condition joins both branches with no help."""
    walk = Walker(plan_of("t>if if-true>a if-false>b b>b2 a>join b2>join"))
    walk.ok("t")
    assert walk.ok("if", outcome="true") == ["start a", "skip b", "skip b2"]
    assert walk.ok("a") == ["start join"]


def test_a_dead_path_can_be_the_last_word_on_a_node() -> None:
    walk = Walker(plan_of("t>if t>a a>join if-true>b b>join"))
    walk.ok("t")
    assert walk.ok("a", 30) == []
    assert walk.ok("if", 50, outcome="false") == ["skip b", "start join"]
    assert walk.last[1] == StartStep(StepKey("join"), 1, 50)


def test_a_long_dead_path_is_no_matter() -> None:
    chain = " ".join(f"n{number}>n{number + 1}" for number in range(5_000))
    walk = Walker(plan_of(f"t>if if-true>n0 {chain}"))
    walk.ok("t")
    assert len(walk.ok("if", outcome="false")) == 5_002


def test_independent_ready_nodes_run_at_the_same_time() -> None:
    names = [f"n{number}" for number in range(50)]
    walk = Walker(plan_of(" ".join(f"t>{name}" for name in names)))
    assert walk.ok("t") == [f"start {name}" for name in names]


def test_max_concurrency_bounds_what_runs() -> None:
    walk = Walker(plan_of("t>a t>b t>c a>d", settings=WorkflowSettings(max_concurrency=2)))
    assert walk.ok("t") == ["start a", "start b"]
    assert walk.ok("b", 30) == ["start c"]
    assert walk.last == [StartStep(StepKey("c"), 1, 30)], "its moment is when it had a place"
    assert walk.ok("c", 40) == []
    assert walk.ok("a", 40) == ["start d"]


def test_who_waits_for_a_place_gets_it_in_the_order_of_becoming_ready() -> None:
    walk = Walker(plan_of("t>b t>c b>a", settings=WorkflowSettings(max_concurrency=1)))
    assert walk.ok("t") == ["start b"]
    assert walk.ok("b", 30) == ["start c"]
    assert walk.ok("c", 40) == ["start a"]


def test_when_false_skips_the_node_and_kills_its_edges() -> None:
    walk = Walker(plan_of("t>a a>b a-error>c t>d d>b"))
    walk.ok("t")
    assert walk.tell(StepDeclined(StepKey("a"), 25)) == ["skip a", "skip c"]
    assert walk.last == [SkipStep(StepKey("a"), 25, declined=True), SkipStep(StepKey("c"), 25)]
    assert walk.ok("d") == ["start b"]


# --- labels ---


def test_on_success_the_error_edges_die() -> None:
    walk = Walker(plan_of("t>a a>b a-error>c"))
    walk.ok("t")
    assert walk.ok("a") == ["start b", "skip c"]


def test_on_failure_all_others_die() -> None:
    walk = Walker(plan_of("t>a a>b a-error>c c>d"))
    walk.ok("t")
    assert walk.fail("a") == ["skip b", "start c"]
    assert walk.ok("c") == ["start d"]
    assert walk.ok("d", 30) == ["completed"], "a handled failure doesn't fail the run"


def test_labels_are_decoration_where_a_type_has_no_outcomes() -> None:
    walk = Walker(plan_of("t-yes>a a-true>b a-false>c"))
    assert walk.ok("t") == ["start a"]
    assert walk.ok("a", outcome="true") == ["start b", "start c"]


def test_an_unlabelled_edge_of_a_type_with_outcomes_is_live_on_any_of_them() -> None:
    for outcome in ("true", "false"):
        walk = Walker(plan_of("t>if if>a if-true>b"))
        walk.ok("t")
        assert walk.ok("if", outcome=outcome)[0] == "start a"


def test_error_is_no_outcome() -> None:
    walk = Walker(plan_of("t>if if-error>a if>b"))
    walk.ok("t")
    assert walk.ok("if", outcome="error") == ["skip a", "start b"]


# --- failures ---

THREE = RetryPolicy(3, RetryStrategy.FIXED, initial_delay=5)


def test_a_failure_goes_to_its_retries_first() -> None:
    walk = Walker(plan_of("t>a a-error>b", a={"retry": THREE, "on_error": OnError.CONTINUE}))
    walk.ok("t")
    assert walk.fail("a", 30, BUSY) == ["start a #2 at 35"]
    assert walk.fail("a", 40, BUSY, 2) == ["start a #3 at 45"]
    assert walk.fail("a", 50, BUSY, 3) == ["start b"]
    assert walk.state.outputs["a"]["error"]["retry_attempt"] == 2


def test_a_failure_that_will_not_pass_is_not_repeated() -> None:
    walk = Walker(plan_of("t>a", a={"retry": THREE}))
    walk.ok("t")
    assert walk.fail("a") == ["failed"]


def test_success_after_a_retry_goes_on() -> None:
    walk = Walker(plan_of("t>a a>b", a={"retry": THREE}))
    walk.ok("t")
    walk.fail("a", 30, BUSY)
    assert walk.ok("a", 40) == ["start b"]


def test_a_failure_of_an_attempt_that_is_over_changes_nothing() -> None:
    walk = Walker(plan_of("t>a", a={"retry": THREE}))
    walk.ok("t")
    walk.fail("a", 30, BUSY)
    assert walk.fail("a", 31, BROKEN, 1) == []
    assert walk.ok("a", 40) == ["completed"]


def test_a_delay_is_drawn_from_run_node_and_attempt() -> None:
    jitter = RetryPolicy(3, RetryStrategy.EXPONENTIAL_JITTER, initial_delay=SECOND, max_delay=60 * SECOND)
    plan = plan_of("t>a t>b", a={"retry": jitter}, b={"retry": jitter})

    def due(seed: bytes, node: str, attempt: int) -> int:
        walk = Walker(plan, seed)
        walk.ok("t")
        for number in range(1, attempt + 1):
            walk.fail(node, 30, BUSY, number)
        start = walk.last[0]
        assert isinstance(start, StartStep)
        return (start.at - 30) >> (attempt - 1)

    drawn = [due(seed, node, attempt) for seed in (b"x", b"y") for node in "ab" for attempt in (1, 2)]
    assert len(set(drawn)) == len(drawn)
    assert drawn == [due(seed, node, attempt) for seed in (b"x", b"y") for node in "ab" for attempt in (1, 2)]
    assert all(0.75 * SECOND <= delay <= 1.25 * SECOND for delay in drawn)


def test_then_to_the_error_edge_before_on_error() -> None:
    walk = Walker(plan_of("t>a a>b a-error>c", a={"on_error": OnError.CONTINUE}))
    walk.ok("t")
    assert walk.fail("a") == ["skip b", "start c"]


def test_then_to_on_error_continue_which_leaves_its_other_edges_live() -> None:
    walk = Walker(plan_of("t>a a>b a-decoration>c", a={"on_error": OnError.CONTINUE}))
    walk.ok("t")
    assert walk.fail("a", 30) == ["start b", "start c"]
    assert walk.state.outputs["a"] == {
        "error": {
            "code": "broken",
            "error_type": "broken",
            "error_message": "It broke.",
            "message": "It broke.",
            "classification": "permanent",
            "node_id": "a",
            "node_type": "plain",
            "retry_attempt": 0,
            "max_retries": 0,
            "timestamp": "1970-01-01T00:00:00.000030Z",
        }
    }


def test_a_failed_type_with_outcomes_has_none_to_go_on_with() -> None:
    walk = Walker(plan_of("t>if if>a if-true>b if-false>c", None, DEFAULT, **{"if": {"on_error": OnError.CONTINUE}}))
    walk.ok("t")
    assert walk.fail("if") == ["start a", "skip b", "skip c"]


def test_at_the_top_the_run_fails_and_running_siblings_are_cancelled() -> None:
    walk = Walker(plan_of("t>a t>b t>c b>d", c={"retry": THREE}))
    walk.ok("t")
    walk.fail("c", 25, BUSY)
    assert walk.fail("a", 30) == ["cancel b", "cancel c", "skip d", "failed"]
    assert walk.last == [
        CancelStep(StepKey("b"), 1, 30),
        CancelStep(StepKey("c"), 2, 30),
        SkipStep(StepKey("d"), 30),
        EndRun(ExecutionState.FAILED, None, BROKEN, 30),
    ]


def test_what_waits_for_a_place_is_skipped_at_the_end() -> None:
    walk = Walker(plan_of("t>a t>b", settings=WorkflowSettings(max_concurrency=1)))
    walk.ok("t")
    assert walk.fail("a") == ["skip b", "failed"]


# --- ends ---


def test_stop_ends_the_run_wherever_it_stands() -> None:
    walk = Walker(plan_of("t>a t>b a>c b>d"))
    walk.ok("t")
    assert walk.ok("a", 30, {"done": 1}, stop=True) == ["cancel b", "skip c", "skip d", "completed"]
    assert walk.end == EndRun(ExecutionState.COMPLETED, {"done": 1}, None, 30)


def test_a_condition_that_stops_leaves_the_runs_own_output() -> None:
    walk = Walker(plan_of("t>if t>a t>b if-true>c"))
    walk.ok("t")
    walk.ok("a", 30, 1)
    assert walk.ok("if", 60, {"result": True}, "true", stop=True) == ["cancel b", "skip c", "completed"]
    assert walk.end == EndRun(ExecutionState.COMPLETED, {"a": 1, "if": {"result": True}}, None, 60)


def test_cancellation_cancels_what_runs_and_skips_the_rest() -> None:
    walk = Walker(plan_of("t>a a>b"))
    walk.ok("t")
    assert walk.tell(RunCancelled(30, "enough")) == ["cancel a", "skip b", "cancelled"]
    assert walk.end == EndRun(ExecutionState.CANCELLED, None, StepError("cancelled", "enough"), 30)
    walk = Walker(plan_of("t>a a>b"))
    walk.tell(RunCancelled(30))
    assert walk.end.error == StepError("cancelled", "The execution was cancelled.")


def test_a_run_fails_from_without() -> None:
    walk = Walker(plan_of("t>a a>b"))
    walk.ok("t")
    assert walk.tell(RunFailed(BUSY, 30)) == ["cancel a", "skip b", "failed"]
    assert walk.end == EndRun(ExecutionState.FAILED, None, BUSY, 30)


def test_terminal_is_final() -> None:
    walk = Walker(plan_of("t>a"))
    walk.ok("t")
    walk.ok("a")
    assert walk.tell(RunCancelled(30), RunFailed(BUSY, 30), StepSucceeded(StepKey("a"), 2, 40)) == []
    assert walk.state.status is ExecutionState.COMPLETED
    assert walk.state.outputs["a"] is None


def test_events_after_the_end_in_the_same_call_are_not_heard() -> None:
    walk = Walker(plan_of("t>a t>b"))
    walk.ok("t")
    told = walk.tell(RunFailed(BUSY, 30), StepSucceeded(StepKey("a"), 1, 40), RunCancelled(50))
    assert told == ["cancel a", "cancel b", "failed"]


# --- output ---


def test_the_output_is_of_the_leaves_by_node_id() -> None:
    """Leaves are nodes that ended with no live outgoing edge; a node that only led to dead ones is one, too."""
    plan = plan_of("t>if if-true>a if-false>b a-error>c t>d", d={"on_error": OnError.CONTINUE})
    walk = Walker(plan)
    walk.ok("t")
    walk.fail("d", 30)
    walk.ok("if", 40, {"result": True}, "true")
    assert walk.ok("a", 60, 7) == ["skip c", "completed"]
    assert list(walk.end.output) == ["a", "d"]
    assert walk.end.output["a"] == 7
    assert walk.end.output["d"]["error"]["code"] == "broken"
    assert walk.end.at == 60


def test_the_output_of_a_single_trigger_is_its_own() -> None:
    walk = Walker(plan_of("t-error>a"))
    assert walk.ok("t", output={"body": 1}) == ["skip a", "completed"]
    assert walk.end.output == {"t": {"body": 1}}


def test_the_output_is_what_the_definition_says() -> None:
    walk = Walker(plan_of("t>a", {"sum": "{{ steps.a.n + trigger.n }}", "at": "{{ env.id }}"}))
    walk.state = initial(walk.plan, {"trigger": {"n": 1}, "env": {"id": "x"}}, b"run")
    walk.tell(RunStarted("t", {}, 10))
    walk.ok("t")
    walk.ok("a", output={"n": 4})
    assert walk.end.output == {"sum": 5, "at": "x"}


def test_the_output_is_made_at_the_moment_of_the_end() -> None:
    walk = Walker(plan_of("t>a t>b", "{{ now() }}"))
    walk.ok("t")
    walk.ok("b", 30)
    walk.ok("a", 60)
    assert walk.end.output == "1970-01-01T00:00:00.00006Z"


def test_an_output_that_can_not_be_made_fails_the_run() -> None:
    walk = Walker(plan_of("t>a", "{{ steps.a.nowhere }}"))
    walk.ok("t")
    assert walk.ok("a", 30, {"n": 4}) == ["failed"]
    assert walk.end.error is not None
    assert walk.end.error.code == "missing_path"
    assert walk.end.error.message.startswith("The workflow's output could not be made: ")
    assert (walk.end.output, walk.end.at) == (None, 30)


def test_missing_null_holds_for_the_output_too() -> None:
    walk = Walker(plan_of("t>a", "{{ steps.a.nowhere }}", WorkflowSettings(missing=Missing.NULL)))
    walk.ok("t")
    assert walk.ok("a", 30, {"n": 4}) == ["completed"]
    assert walk.end.output is None


def test_a_stop_that_finds_no_output_fails_too() -> None:
    walk = Walker(plan_of("t>if if-true>a", "{{ steps.a.n }}"))
    walk.ok("t")
    assert walk.ok("if", 30, True, "true", stop=True) == ["skip a", "failed"]


# --- what expressions see ---


def test_expressions_see_the_outputs_so_far_and_the_frozen_roots() -> None:
    walk = Walker(plan_of("t>a a>b"))
    walk.ok("t", output={"body": 1})
    walk.ok("a", output=5)
    scope = scope_of(walk.plan, walk.state, walk.state.top, 33)
    assert scope.roots["trigger"] == {"n": 1}
    assert scope.roots["steps"] == {"t": {"body": 1}, "a": 5}
    assert (scope.now, scope.seed) == (33, b"run")


def test_a_trigger_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        Walker(plan_of("t>a"), trigger="nowhere")


def test_plans_are_values() -> None:
    plan = plan_of("t>a")
    assert replace(plan, output=None) == plan
