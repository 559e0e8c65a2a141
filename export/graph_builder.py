"""One ONNX graph under construction: nodes, inputs, outputs, small constants inside, matrices outside.

It has no idea of Gemma; the `*_graph.py` files do. Nodes are named by the module path of the checkpoint, as in
`/layers.0/self_attn/q_norm`, and a node's value has the node's name.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from export.external_data import StoredValue, storage_error

MICROSOFT: Final = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
FLOAT: Final = onnx.TensorProto.FLOAT
INT8: Final = onnx.TensorProto.INT8
INT64: Final = onnx.TensorProto.INT64
INT32: Final = onnx.TensorProto.INT32
_OPSET: Final = 21
_IR_VERSION: Final = 10
"""What opset 21 came with; newer ones gain nothing here and shut out older runtimes."""
Dimension = int | str
"""A number, or the name of a length that differs from run to run."""


class GraphBuilder:
    """Collects a graph and saves it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def input(self, name: str, data_type: int, shape: Sequence[Dimension]) -> str:
        """Declare a graph input."""
        self._inputs.append(onnx.helper.make_tensor_value_info(name, data_type, shape))
        return name

    def output(self, name: str, data_type: int, shape: Sequence[Dimension]) -> None:
        """Declare a value as a graph output."""
        self._outputs.append(onnx.helper.make_tensor_value_info(name, data_type, shape))

    def node(self, op_type: str, name: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, which gets the node's name, and return that name."""
        return self.nodes(op_type, name, inputs, [name], domain=domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[str]:
        """Add a node whose outputs are named by the caller; an empty name stands for an absent input or output."""
        node = onnx.helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return outputs

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a small constant inside the graph file, once; the same name must mean the same value."""
        if name not in self._initializers:
            self._initializers[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def shape(self, *dimensions: int) -> str:
        """Add the constant shape of a Reshape: -1 for the length to be inferred, 0 for one to be kept."""
        return self.constant("shape." + "x".join(map(str, dimensions)), np.array(dimensions, np.int64))

    def stored(self, name: str, value: StoredValue) -> str:
        """Add a matrix that lies in an external-data file."""
        self._initializers[name] = value.to_initializer(name)
        return name

    def save(self, path: Path) -> None:
        """Write the graph.

        Raises:
            StorageError: The file cannot be written.
        """
        graph = onnx.helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [onnx.helper.make_opsetid("", _OPSET), onnx.helper.make_opsetid(MICROSOFT, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="dermstation")
        try:
            with path.open("xb") as file:
                file.write(model.SerializeToString(deterministic=True))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(path, error) from error
