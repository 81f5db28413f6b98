"""Graphs as files that other programs run: ONNX, and PyTorch's exported programs; each checked against the model."""

import contextlib
import io
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genzoo.errors import UserError
from genzoo.export.graphs import Graph, difference, traced

BATCH = "batch"  # the name of the first dimension in ONNX files


def write_onnx(graph: Graph, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """PATH.onnx, whose metadata says `about` in JSON; how it was checked, and by how much it differs."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what PyTorch's exporter is written in
    except ModuleNotFoundError as error:
        raise UserError(f"--to onnx needs the package {error.name}: pip install 'genzoo[export]'") from error
    program = traced(graph)
    with _quiet(), torch.no_grad():
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    _name(made.model, list(graph.example(1)), list(graph.module(**graph.example(1))))
    made.model.metadata_props.update({f"genzoo.{key}": json.dumps(value) for key, value in about.items()})
    made.save(file := path.with_suffix(".onnx"))

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return _record(graph, file, f"onnxruntime {onnxruntime.__version__}", difference(graph, run))


def write_torch(graph: Graph, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """PATH.pt2, for torch.export.load; how it was checked, and by how much it differs."""
    torch.export.save(traced(graph), file := path.with_suffix(".pt2"))
    program = torch.export.load(file).module()
    return _record(graph, file, f"torch {version('torch')}", difference(graph, lambda inputs: program(**inputs)))


def _record(graph: Graph, file: Path, checked_with: str, apart: float) -> dict[str, Any]:
    inputs = graph.example(2)

    def told(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {
            name: {"dtype": str(one.dtype).removeprefix("torch."), "shape": [BATCH, *one.shape[1:]],
                   "is": graph.said.get(name, "")}
            for name, one in tensors.items()
        }  # fmt: skip

    with torch.no_grad():
        made = graph.module(**inputs)
    return {
        "file": file.name,
        "inputs": told(inputs),
        "outputs": told(made),
        "checked_with": checked_with,
        "largest_difference": apart,
    }


def _name(model: Any, inputs: list[str], outputs: list[str]) -> None:
    """Give the graph of an onnx_ir.Model the names of its inputs and outputs, which values within may have too."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(one for node in graph for one in node.outputs)]
    due = dict(zip(map(id, [*graph.inputs, *graph.outputs]), [*inputs, *outputs], strict=True))
    for value in values:
        if value.name in due.values() and id(value) not in due:
            value.name = f"{value.name}.inner"
    for value in [*graph.inputs, *graph.outputs]:
        value.name = due[id(value)]
    own = graph.inputs[0].shape[0]
    for value in values:
        if value.shape is not None and not value.shape.frozen:
            for axis, size in enumerate(value.shape):
                if size == own:
                    value.shape[axis] = BATCH


@contextlib.contextmanager
def _quiet():
    """Without what PyTorch's exporter prints of its progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
