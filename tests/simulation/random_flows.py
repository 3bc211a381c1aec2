"""Plans as flows, recorded by the public words, and the few steps that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from orchestrator import (
    Flow,
    Retry,
    StepError,
    call,
    choose,
    each,
    first_n,
    first_of,
    flow,
    missing,
    not_,
    otherwise,
    step,
    this_step,
    when,
)
from orchestrator.records import StepAddress
from tests.simulation.random_plans import (
    Block,
    Call,
    Choose,
    Condition,
    Each,
    Expression,
    Merge,
    Plan,
    Statement,
    Work,
    fails_on,
    result_of,
)

#: The step runs whose bodies began, and what befalls every body.
ran: set[StepAddress] = set()
befall: list[Callable[[], None]] = []


def _body(label: str, argument: Any, fails: int) -> Any:
    ran.add(this_step().address)
    for mishap in befall:
        mishap()
    if fails_on(label, argument, fails):
        raise ValueError(f"{label} fails on {argument}")
    return result_of(label, argument)


@step
def work(x: Any, given: Any, label: str, fails: int) -> Any:
    return _body(label, [x, given], fails)


@step
def rescue(error: StepError) -> Any:
    return _body("rescue", error.input, 0)


@step
def rescue_at_times(error: StepError) -> Any:
    return _body("rescue", error.input, 3)


def flow_of(plan: Plan, known: dict[str, Flow[..., Any]]) -> Flow[..., Any]:
    """Return the flow of a plan; ``known`` collects it with those that it uses."""

    def generated(x: Any, y: Any) -> Any:
        promises = {"x": x, "y": y}
        recorder = _Recorder(promises, known)
        recorder.record(plan.body)
        return recorder.value(plan.result)

    if plan.name not in known:
        known[plan.name] = flow(name=plan.name)(generated)
    return known[plan.name]


class _Recorder:
    def __init__(self, params: dict[str, Any], known: dict[str, Flow[..., Any]]) -> None:
        self.params, self.known, self.outs = params, known, dict[str, Any]()

    def record(self, statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            match statement:
                case Block(condition=condition, body=body, other=other):
                    with when(self.condition(condition)):
                        self.record(body)
                    with otherwise() if other else nullcontext():
                        self.record(other)
                case _:
                    self.outs[statement.name] = self.node(statement)

    def node(self, statement: Work | Each | Call | Merge | Choose) -> Any:
        match statement:
            case Work():
                return self.work(statement)
            case Merge(inputs=inputs, wanted=wanted, cancel=cancel):
                given = [self.outs[name] for name in inputs]
                others: Any = "cancel" if cancel else "leave"
                if wanted:
                    return first_n(wanted, given, others=others)
                return first_of(given, others=others)
            case Choose(condition=condition, then=then, other=other):
                return choose(
                    self.condition(condition), lambda: self.work(then), lambda: self.work(other)
                )
            case Each():
                return self.each(statement)
            case Call(plan=plan, x=x, y=y):
                child = flow_of(plan, self.known)
                given_x, given_y = self.value(x), self.value(y)
                if statement.by_name:
                    return call.options(**self.use(statement))(plan.name, x=given_x, y=given_y)
                return child.options(**self.use(statement))(given_x, given_y)

    def work(self, made: Work) -> Any:
        retry = Retry(attempts=made.tries, first="1s", jitter=False)
        used = work.options(**self.use(made), retry=retry, inline=made.inline)
        return used(
            self.value(made.x), [self.value(part) for part in made.given], made.name, made.fails
        )

    def each(self, made: Each) -> Any:
        items, given = self.value(made.items), [self.value(part) for part in made.given]
        options: dict[str, Any] = {"window": made.window, "accept": made.accept}
        if made.over is not None:
            body = flow_of(made.over, self.known)
            return each(items, body.options(**self.use(made), **options), given[0])
        used = work.options(**self.use(made), **options, inline=made.inline)
        return each(items, used, given, made.name, made.fails)

    def use(self, made: Work | Each | Call) -> dict[str, Any]:
        handlers = {0: rescue, 3: rescue_at_times}
        return {
            "name": made.name,
            "after": [self.outs[name] for name in made.after] or None,
            "on_error": None if made.handler is None else handlers[made.handler],
        }

    def value(self, expression: Expression) -> Any:
        match expression:
            case ("param", name):
                return self.params[name]
            case ("out", name):
                return self.outs[name]
            case ("field", of, key):
                return self.value(of)[key]
            case ("list", parts):
                return [self.value(part) for part in parts]
        return expression[1]

    def condition(self, condition: Condition) -> Any:
        kind, *parts = condition
        if kind in {"and", "or", "not"}:
            one, *more = (self.condition(part) for part in parts)
            return not_(one) if kind == "not" else one & more[0] if kind == "and" else one | more[0]
        left, *right = (self.value(part) for part in parts)
        match kind:
            case "missing":
                return missing(left)
            case "true":
                return left
            case "==":
                return left == right[0]
            case "!=":
                return left != right[0]
            case "<":
                return left < right[0]
            case "<=":
                return left <= right[0]
            case ">":
                return left > right[0]
        return left >= right[0]
