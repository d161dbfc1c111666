"""Write modules of tensors as ONNX files, and run those files by onnxruntime.

Source: https://onnx.ai/onnx/intro; `torch.onnx.export`, by torch.export.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...featcache.errors import ExportError
from ...featcache.writing import by_library

OUTPUT = "embedding"


def write_onnx(
    path: Path,
    module: nn.Module,
    example: Sequence[Tensor],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Write `module` to `path`; weights of more than 2 GB go into a file beside it.

    Args:
        path: The file.
        module: In evaluation mode, on the CPU; it returns the embeddings.
        example: One batch of its inputs, of two rows and two tokens or more.
        axes: By name of an input, in order, the names of its axes that may have any length.

    Raises:
        ExportError: The module holds what ONNX cannot say.
    """
    dims = {
        name: torch.export.Dim(name) for named_axes in axes.values() for name in named_axes.values()
    }
    shapes = tuple(
        {axis: dims[name] for axis, name in named_axes.items()} or None
        for named_axes in axes.values()
    )
    with _quiet(), torch.no_grad(), _plain_attention():
        try:
            program = torch.onnx.export(
                _Positional(module).eval(),
                tuple(example),
                dynamo=True,
                input_names=list(axes),
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"{path.stem} cannot be written as ONNX: {reason}") from error
        assert program is not None, "an export without a file returns a program"
        # the exporter fixes an axis without a word where a part of the module needs its length
        _require_any_length(program, path, axes)
        _rename_inner(program, [*axes, OUTPUT])
        with by_library(path):
            program.save(path)


class OnnxTower:
    """Run an ONNX file by onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session: Any = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return type and shape of each input and output; an axis of any length has a name."""
        sides = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        return {
            side: {node.name: {"type": node.type, "shape": node.shape} for node in nodes}
            for side, nodes in sides.items()
        }

    def __call__(self, *inputs: Tensor) -> np.ndarray:
        """Return the embeddings of one batch."""
        names = [node.name for node in self._session.get_inputs()]
        batch = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        embeddings: np.ndarray = self._session.run([OUTPUT], batch)[0]
        return embeddings


class _Positional(nn.Module):
    """Take all inputs by position, so that their shapes can be described alike."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the module returns."""
        output: Tensor = self.module(*inputs)
        return output


def _require_any_length(program: Any, path: Path, axes: Mapping[str, Mapping[int, str]]) -> None:
    for graph_input, (name, named_axes) in zip(
        program.model.graph.inputs, axes.items(), strict=True
    ):
        for axis, axis_name in named_axes.items():
            if isinstance(graph_input.shape[axis], int):
                raise ExportError(
                    f"{path.stem} cannot be written as ONNX: a part of it fixes the axis "
                    f"{axis_name!r} of {name!r} to {graph_input.shape[axis]}"
                )


def _rename_inner(program: Any, names: Sequence[str]) -> None:
    """Rename results inside of the graph that have a name of ours: `embedding` is an operator's."""
    outputs = [id(value) for value in program.model.graph.outputs]
    for node in program.model.graph:
        for value in node.outputs:
            if value.name in names and id(value) not in outputs:
                value.name = f"inner.{value.name}"


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep PyTorch's fused layers out of the graph: ONNX has no such operator."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on its own working; what it wrote is checked by running it."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
