"""The engine: which operations of a flat graph execute, how often, what for, and what they cost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.flops import formulas
from fm_mlflow.measure.flops.counters import UPDATE
from fm_mlflow.measure.flops.formulas import Cost, UnknownShapeError
from fm_mlflow.measure.flops.marks import BACKWARD_SCOPE, call_of
from fm_mlflow.measure.flops.nodes import FlatGraph, Node, Region

_BACKWARD = re.compile(rf"(^|/)(gradient_tape|gradients|{BACKWARD_SCOPE}(_[0-9]+)?)/")
_SIDE_EFFECT = re.compile("Assert|Print(V2)?|EagerPyFunc|PyFunc|.*Summary.*")
"""Operations that TensorFlow executes although nothing needs what they return."""


Exact = int | Fraction
"""A number of operations: a fraction where a branch is taken in some of the steps only."""


class Phase(Enum):
    """What an operation is there for."""

    FORWARD = "forward"
    WEIGHT_GRADIENT = "weight gradient"
    INPUT_GRADIENT = "input gradient"


@dataclass(frozen=True)
class Counted:
    """An operation that executes.

    Attributes:
        kind: TensorFlow's type.
        row: Number of the table's row that it belongs to, None where it belongs to none.
        phase: What it is there for.
        core: FLOPs in matrix products and convolutions, all executions of it together.
        other: All its other FLOPs.
        integer: Operations on integers in products and convolutions.
    """

    kind: str
    row: int | None
    phase: Phase
    core: Exact
    other: Exact
    integer: Exact = 0


@dataclass(frozen=True)
class Count:
    """What one call of a traced function executes.

    Attributes:
        operations: Those that cost something.
        unsupported: Operations without a count: why and how often they occur, by type.
        coverage: Of the operations that do arithmetic, the share that is counted, 0 to 1.
        aside: FLOPs that only an assertion, a print or another side effect needs, by its type; they
            are in no other figure.
        registered: Operations that are counted by a formula of the user, by type.
    """

    operations: list[Counted]
    unsupported: dict[str, int]
    coverage: float
    aside: dict[str, int]
    registered: dict[str, int]

    @property
    def core(self) -> Fraction:
        """FLOPs in matrix products and convolutions."""
        return Fraction(sum(counted.core for counted in self.operations))

    @property
    def total(self) -> Fraction:
        """All FLOPs."""
        return Fraction(sum(counted.core + counted.other for counted in self.operations))

    @property
    def integer(self) -> dict[str, int]:
        """Operations on integers in products and convolutions, by type."""
        found: Counter[str] = Counter()
        for counted in self.operations:
            if counted.integer:
                found[counted.kind] += round(counted.integer)
        return dict(found)


def count(flat: FlatGraph) -> Count:
    """Count what executes: what the outputs or the update of a variable need.

    Raises:
        FlopsError: The shape of a matrix product or convolution is unknown.
    """
    live = _needed_by(
        [ref.node for ref in flat.outputs]
        + [node for node in flat.nodes if UPDATE.match(node.kind)]
    )
    in_order = [node for node in flat.nodes if node in live]
    origins = _origins(in_order)
    reached = _reached_calls(in_order, origins)
    missing: Counter[str] = Counter()
    costs = _costs(in_order, missing)
    if flat.endless:
        missing["While (unknown number of trips)"] = len(flat.endless)
    runs = _runs(flat, costs)
    operations = []
    for node, cost in costs.items():
        if times := runs[node.region]:
            origin = origins[node]
            phase = _phase(origin, reached[node])
            spent = (times * flops for flops in (cost.core, cost.other, cost.integer))
            operations.append(Counted(node.kind, origin.row, phase, *spent))
    aside = _aside(flat, live, runs, missing)
    arithmetic = len(costs) + missing.total()
    coverage = len(costs) / arithmetic if arithmetic else 1.0
    registered = Counter(node.kind for node in costs if node.kind in formulas.REGISTERED)
    return Count(operations, dict(missing.most_common()), coverage, aside, dict(registered))


def _costs(nodes: Iterable[Node], missing: Counter[str]) -> dict[Node, Cost]:
    """What each of the operations that cost something costs; notes those without a count."""
    costs: dict[Node, Cost] = {}
    for node in nodes:
        try:
            cost = formulas.cost(node)
        except UnknownShapeError:
            if node.kind in formulas.CORE_KINDS:
                raise FlopsError(
                    f"the shape of {node.name} ({node.kind}) is unknown before training runs",
                    "give the layers fixed sizes",
                ) from None
            missing[f"{node.kind} (unknown shape)"] += 1
            continue
        if cost is None:
            missing[node.kind] += 1
        elif cost != formulas.FREE:
            costs[node] = cost
    return costs


def _aside(
    flat: FlatGraph,
    live: set[Node],
    runs: dict[Region | None, Exact],
    missing: Counter[str],
) -> dict[str, int]:
    """FLOPs that only side effects need, by the type of the first that needs them."""
    found: Counter[str] = Counter()
    seen = set(live)
    for effect in flat.nodes:
        if effect not in seen and _SIDE_EFFECT.fullmatch(effect.kind):
            needed = _needed_by([effect], seen)
            seen |= needed
            if not effect.kind.endswith("PyFunc"):
                needed.remove(effect)  # what it does is no arithmetic
            unknown: Counter[str] = Counter()
            for node, cost in _costs(needed, unknown).items():
                found[effect.kind] += round(runs[node.region] * (cost.core + cost.other))
            for kind, number in unknown.items():
                missing[f"{kind} (for {effect.kind} only)"] += number
    return {kind: flops for kind, flops in found.items() if flops}


def _needed_by(nodes: list[Node], known: Container[Node] = ()) -> set[Node]:
    """The nodes and what they need, directly or not, without what is known already."""
    waiting = list(nodes)
    needed: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in needed or node in known:
            continue
        needed.add(node)
        waiting += [ref.node for ref in node.inputs]
        if node.region is not None:
            waiting.append(node.region.owner)
    return needed


@dataclass(frozen=True)
class _Origin:
    """What an operation's name says.

    Attributes:
        row: Number of the table's row, None if of none.
        call: A bit for the call of the layer, 0 if of none.
        is_backward: It is part of the backward pass.
        is_use: It is that call's own use of what it is given, not a sum for several users.
    """

    row: int | None
    call: int
    is_backward: bool
    is_use: bool = True


def _origins(live: list[Node]) -> dict[Node, _Origin]:
    origins: dict[Node, _Origin] = {}
    for node in live:
        row, call = call_of(node.name)
        if row is None and node.kind == "AddN":
            # The sum of what several users of a tensor pass back; TensorFlow does not say whose.
            origins[node] = replace(origins[node.inputs[0].node], is_use=False)
        else:
            origins[node] = _Origin(row, call, bool(_BACKWARD.search(node.name)))
    return origins


def _reached_calls(live: list[Node], origins: dict[Node, _Origin]) -> dict[Node, int]:
    """For each node, the calls of layers in whose backward pass its result is used (a bit each).

    Loops make circles, so it repeats until nothing changes; two or three times, in practice.
    """
    reached = dict.fromkeys(live, 0)
    changed = True
    while changed:
        changed = False
        for node in reversed(live):
            origin = origins[node]
            onward = reached[node] | (origin.call if origin.is_backward and origin.is_use else 0)
            for ref in node.inputs:
                if onward & ~reached[ref.node]:
                    reached[ref.node] |= onward
                    changed = True
    return reached


def _phase(origin: _Origin, reached: int) -> Phase:
    """Tell the backward pass's two purposes apart by who uses the result.

    What the backward pass of another layer (or of another call of the same layer) uses is the
    gradient with respect to an input; what ends in this layer's own weights is theirs.
    """
    if not origin.is_backward:
        return Phase.FORWARD
    return Phase.INPUT_GRADIENT if reached & ~origin.call else Phase.WEIGHT_GRADIENT


def _runs(flat: FlatGraph, costs: dict[Node, Cost]) -> dict[Region | None, Exact]:
    """How often each region runs in one call of the function; None is the function itself.

    Of a condition that depends on data the branch with the most FLOPs is counted.
    """
    spent: Counter[Region | None] = Counter()
    for node, cost in costs.items():
        spent[node.region] += cost.core + cost.other
    # Inner regions come after outer ones; what they cost is added up on the way back.
    factor: dict[Region, Fraction] = {}
    for region in reversed(flat.regions):
        if region.runs is not None:
            factor[region] = region.runs
        elif region not in factor:
            branches = [other for other in flat.regions if other.owner is region.owner]
            dearest = max(branches, key=lambda branch: spent[branch])
            factor |= {branch: Fraction(branch is dearest) for branch in branches}
        spent[region.parent] += int(spent[region] * factor[region])
    runs: dict[Region | None, Exact] = {None: 1}
    for region in flat.regions:
        times = runs[region.parent] * factor[region]
        # Fractions are slow, and there are thousands of operations.
        runs[region] = times if times.denominator > 1 else times.numerator
    return runs
