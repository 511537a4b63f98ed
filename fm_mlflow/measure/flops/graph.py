"""A traced function as one flat graph: called functions, loops and branches opened up.

A call leaves nothing behind: its body's operations take its place, with the shapes that they have
in this call. A loop's body appears once, in a region that knows how often it runs; the loop's
variables close the circle. Both branches of a condition appear, each in a region that knows how
often it is taken.
"""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

from fm_mlflow.measure.flops.counters import shares_of_counters
from fm_mlflow.measure.flops.nodes import FlatGraph, Node, Ref, Region
from fm_mlflow.measure.flops.shapes import CallShapes
from fm_mlflow.measure.flops.values import Values

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
_CONDITIONS = ("If", "StatelessIf", "Case", "StatelessCase")
_PASSED_ON = ("Identity", "IdentityN")
_FORWARD_CONVOLUTIONS = ("Conv", "Conv2D", "Conv3D", "DepthwiseConv2dNative")
_SAME_SIZE = ("ExpandDims", "Reshape", "Squeeze")


def flatten(function_graph: Any) -> FlatGraph:
    """Open up a traced function.

    Args:
        function_graph: The `graph` of a `tf.types.experimental.ConcreteFunction`.
    """
    builder = _Builder(function_graph)
    flat = builder.flat
    flat.outputs = builder.inline(function_graph, None, "", None)
    for chooser, branches, is_index in builder.undecided:
        shares = shares_of_counters(flat, builder.values, chooser, len(branches), is_index)
        for branch, share in zip(branches, shares, strict=True):
            branch.runs = share
    _undo_space_to_batch(flat)
    return flat


def _undo_space_to_batch(flat: FlatGraph) -> None:
    """Give a dilated convolution the output positions that it is asked for.

    TensorFlow moves the dilation into the batch, which rounds the sizes up to a multiple of it.
    """
    for node in flat.nodes:
        if node.kind == "BatchToSpaceND":
            source = _before_reshaping(node.inputs[0])
            if source.kind in _FORWARD_CONVOLUTIONS:
                source.outputs = node.outputs
        elif "Backprop" in node.kind:
            source = _before_reshaping(node.inputs[2])
            if source.kind == "SpaceToBatchND":
                node.positions = source.input_shapes[0]


def _before_reshaping(ref: Ref) -> Node:
    """Return what a tensor's numbers come from; a 1D convolution is a 2D one of height 1."""
    node = ref.node
    while node.kind in _SAME_SIZE:
        node = node.inputs[0].node
    return node


class _Builder:
    def __init__(self, function_graph: Any) -> None:
        self.flat = FlatGraph()
        self.values = Values()
        self.undecided: list[tuple[Ref, list[Region], bool]] = []
        """Conditions that are not known before the graph runs: see `Values.taken`."""
        self._whole = function_graph
        self._shapes = CallShapes(self.values)
        self._calls = 0
        self._legacy: dict[str, Any] = {}
        self._found: dict[tuple[Any, str], Any] = {}

    def inline(
        self, graph: Any, arguments: list[Ref] | None, prefix: str, region: Region | None
    ) -> list[Ref]:
        """Add a function's operations and return its outputs."""
        refs: dict[str, Ref] = {}
        if arguments is not None:
            refs = {tensor.name: ref for tensor, ref in zip(graph.inputs, arguments, strict=True)}
        for op in _in_order(graph):
            names = [tensor.name for tensor in op.outputs]
            if names and all(name in refs for name in names):
                continue  # an argument
            inputs = [refs[tensor.name] for tensor in op.inputs]
            outputs = self._add(op, graph, inputs, prefix + op.name, region)
            refs.update(zip(names, outputs, strict=True))
        return [refs[tensor.name] for tensor in graph.outputs]

    def _add(
        self, op: Any, graph: Any, inputs: list[Ref], name: str, region: Region | None
    ) -> list[Ref]:
        if op.type in _PASSED_ON:
            if not self._calls:
                self.flat.identities.append(op)
            return inputs
        if op.type in _CALLS:
            body, prefix = self._function(op, graph, "f"), _call_name(op, name)
            return self._add_call(body, op, inputs, prefix, region)
        if op.type in _LOOPS:
            return self._add_loop(op, graph, inputs, name, region)
        if op.type in _CONDITIONS:
            return self._add_condition(op, graph, inputs, name, region)
        if (legacy := self._find(graph, op.type)) is not None:
            return self._add_call(self._body(legacy), op, inputs, f"{name}/", region)
        op = self._shapes.of_call(op, inputs)
        node = self._node(op.type, name, inputs, op.outputs, region, op)
        return [Ref(node, index) for index in range(len(op.outputs))]

    def _node(self, kind: str, name: str, inputs: list[Ref], *rest: Any) -> Node:
        node = Node(kind, name, inputs, *rest)
        self.flat.nodes.append(node)
        return node

    def _add_call(
        self, body: Any, op: Any, inputs: list[Ref], prefix: str, region: Region | None
    ) -> list[Ref]:
        self._calls += 1
        outputs = self.inline(body, inputs, prefix, region)
        self._calls -= 1
        # A function that was differentiated since has more outputs, for its gradient.
        return outputs[: len(op.outputs)]

    def _add_loop(
        self, op: Any, graph: Any, inputs: list[Ref], name: str, region: Region | None
    ) -> list[Ref]:
        condition, body = (self._function(op, graph, part) for part in ("cond", "body"))
        # A variable has the shape that it starts with, unless a trip changes it.
        declared, flat = body.inputs, self.flat
        tensors = list(map(self._shapes.at_start, inputs, declared))
        lists: list[list[Any]] = [flat.nodes, flat.regions, flat.endless, self.undecided]
        lengths = [len(each) for each in lists]
        while True:
            loop = self._node("While", name, [], [], region)
            inside, test = Region(loop, Fraction(1)), Region(loop, Fraction(1))
            flat.regions += [inside, test]
            variables = [
                Ref(self._node("LoopVariable", name, [start, Ref(loop, 0)], [tensor], region), 0)
                for start, tensor in zip(inputs, tensors, strict=True)
            ]
            after = self.inline(body, variables, f"{name}/", inside)
            kept = [
                tensor if self._shapes.same(ref.tensor, tensor) else first
                for ref, tensor, first in zip(after, tensors, declared, strict=True)
            ]
            if all(map(operator.is_, kept, tensors)):
                break
            tensors = kept
            for each, length in zip(lists, lengths, strict=True):
                del each[length:]
        for variable, ref in zip(variables, after, strict=True):
            variable.node.inputs.append(ref)
        (proceed,) = self.inline(condition, variables, f"{name}/", test)
        loop.inputs.append(proceed)
        trips = self.values.run_loop([ref.node for ref in variables], proceed)
        if trips is None:
            flat.endless.append(loop)
        else:
            inside.runs, test.runs = Fraction(trips), Fraction(trips + 1)
        return variables

    def _add_condition(
        self, op: Any, graph: Any, inputs: list[Ref], name: str, region: Region | None
    ) -> list[Ref]:
        chooser, *arguments = inputs
        condition = self._node("If", name, [chooser], [], region)
        if is_index := op.type.endswith("Case"):
            names = [function.name for function in op.get_attr("branches")]
            functions = [self._named(graph, each) for each in names]
        else:
            functions = [self._function(op, graph, f"{word}_branch") for word in ("then", "else")]
        taken = self.values.taken(chooser, len(functions), is_index)
        regions = [
            Region(condition, None if taken is None else Fraction(branch == taken))
            for branch in range(len(functions))
        ]
        if taken is None:
            self.undecided.append((chooser, regions, is_index))
        self.flat.regions += regions
        branches = [
            self.inline(function, arguments, f"{name}/", inside)
            for function, inside in zip(functions, regions, strict=True)
        ]
        outputs = []
        for tensor, *results in zip(op.outputs, *branches, strict=True):
            joined = self._shapes.joined(results, tensor)
            merge = self._node("Merge", name, [Ref(condition, 0), *results], [joined], region)
            outputs.append(Ref(merge, 0))
        return outputs

    def _function(self, op: Any, graph: Any, attribute: str) -> Any:
        return self._named(graph, op.get_attr(attribute).name)

    def _named(self, graph: Any, name: str) -> Any:
        return self._body(self._find(graph, name))

    def _find(self, graph: Any, name: str) -> Any:
        if (key := (graph, name)) not in self._found:
            # There is no public way from a call in a graph to what it calls.
            self._found[key] = graph._get_function(name) or self._whole._get_function(name)
        return self._found[key]

    def _body(self, function: Any) -> Any:
        """Return a function's graph; one made by TensorFlow 1's `Defun` has a definition only."""
        if hasattr(function, "graph"):
            return function.graph
        if function.name not in self._legacy:
            from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

            with self._whole.as_default():  # which has the functions that this one calls
                self._legacy[function.name] = function_def_to_graph(
                    function.definition, include_library_functions=True
                )
        return self._legacy[function.name]


def _in_order(graph: Any) -> list[Any]:
    """A graph's operations, each after its inputs: a loop gets some after it was made."""
    ordered: dict[Any, None] = {}
    waiting = list(reversed(graph.get_operations()))
    while waiting:
        op = waiting[-1]
        before = [tensor.op for tensor in op.inputs if tensor.op not in ordered]
        if op in ordered or not before:
            ordered[waiting.pop()] = None
        else:
            waiting += before
    return list(ordered)


def _call_name(op: Any, name: str) -> str:
    """Return the prefix of what a call executes.

    TensorFlow puts the call of a function's gradient into no name scope. It is made part of the
    call that it is the gradient of, which it takes intermediate results from.
    """
    if "__backward_" in op.get_attr("f").name:
        for source in [tensor.op for tensor in op.inputs]:
            if source.type in _CALLS and "__forward_" in source.get_attr("f").name:
                return f"{name}/gradient_tape/{source.name}/"
    return f"{name}/"
