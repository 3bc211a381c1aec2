"""A random plan as the flow that a person would have written."""

from __future__ import annotations

from collections.abc import Iterator

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
)


def text(plan: Plan) -> str:
    """Return a flow and those it uses, innermost first."""
    inner = [text(used) for used in _used(plan.body)]
    lines = "\n".join(f"    {line}" for made in plan.body for line in _lines(made))
    whole = f"def {plan.name}(x, y):\n{lines}\n    return {_value(plan.result)}"
    return "\n\n".join([*inner, whole])


def _used(statements: tuple[Statement, ...]) -> Iterator[Plan]:
    for made in statements:
        match made:
            case Each(over=Plan() as plan) | Call(plan=plan):
                yield plan
            case Block(body=body, other=other):
                yield from _used((*body, *other))


def _lines(made: Statement) -> Iterator[str]:
    match made:
        case Block(condition=condition, body=body, other=other):
            yield f"with when({_condition(condition)}):"
            yield from (f"    {line}" for inner in body for line in _lines(inner))
            if other:
                yield "with otherwise():"
                yield from (f"    {line}" for inner in other for line in _lines(inner))
        case Choose(name=name, condition=condition, then=then, other=other):
            yield f"{name} = choose({_condition(condition)}, {_work(then)}, {_work(other)})"
        case Merge(name=name, inputs=inputs, wanted=wanted, cancel=cancel):
            function = f"first_n({wanted}, " if wanted else "first_of("
            others = "cancel" if cancel else "leave"
            yield f"{name} = {function}{', '.join(inputs)}, others={others!r})"
        case Work():
            yield _work(made)
        case Each(items=items, over=over, accept=accept, window=window, fails=fails):
            used = f"work[fails={fails}]" if over is None else over.name
            given = ", ".join(map(_value, made.given))
            options = f"accept={accept!r}, window={window}, inline={made.inline}{_use(made)}"
            yield f"{made.name} = each({_value(items)}, {used}.options({options}), {given})"
        case Call(plan=plan, x=x, y=y, by_name=by_name):
            flow = f"call by name {plan.name}" if by_name else plan.name
            yield f"{made.name} = {flow}.options({_use(made)})({_value(x)}, {_value(y)})"


def _work(made: Work) -> str:
    given = ", ".join(map(_value, (made.x, *made.given)))
    options = f"fails={made.fails}, tries={made.tries}, inline={made.inline}{_use(made)}"
    return f"{made.name} = work[{options}]({given})"


def _use(made: Work | Each | Call) -> str:
    handler = "" if made.handler is None else f", on_error=rescue[fails={made.handler}]"
    return handler + (f", after={made.after[0]}" if made.after else "")


def _value(expression: Expression) -> str:
    match expression:
        case ("field", of, key):
            return f"{_value(of)}[{key!r}]"
        case ("list", parts):
            return f"[{', '.join(map(_value, parts))}]"
        case ("lit", value):
            return repr(value)
    return str(expression[1])


def _condition(condition: Condition) -> str:
    match condition:
        case ("and" | "or" as kind, one, other):
            return f"({_condition(one)} {kind} {_condition(other)})"
        case ("not", one):
            return f"not_({_condition(one)})"
        case ("missing", of):
            return f"missing({_value(of)})"
        case ("true", of):
            return _value(of)
    kind, left, right = condition
    return f"({_value(left)} {kind} {_value(right)})"
