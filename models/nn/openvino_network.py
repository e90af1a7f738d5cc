"""Networks in OpenVINO's format, computed by torch: so that one can teach on a GPU, too.

Reference:
    OpenVINO's documentation of the intermediate representation and of its operation sets
    (opset1 to opset13) for what each operation computes.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ModelFileError

ELEMENTS = {
    "f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32, "u8": np.uint8,
    "FP32": np.float32, "FP16": np.float16, "I64": np.int64, "I32": np.int32,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One operation of a network.

    Attributes:
        kind: its name in OpenVINO's operation sets.
        settings: its attributes.
        inputs: the layers whose outputs it takes.
        output: its own layer.
    """

    kind: str
    settings: dict[str, str]
    inputs: tuple[int, ...]
    output: int


class OpenVinoNetwork(nn.Module):
    """A network of one input 1 × 3 × H × W and one output 1 × D, for batches of any size.

    The weights are buffers: nothing of it trains.
    """

    def __init__(self, path: Path) -> None:
        """Read it.

        Args:
            path: the .xml, its .bin beside it.

        Raises:
            ModelFileError: a file is missing or no such network, or it holds an operation that is
                not known here.
        """
        super().__init__()
        try:
            layers, edges = _described(path)
            weights = path.with_suffix(".bin").read_bytes()
            self._read(layers, edges, weights)
        except OSError as error:
            raise ModelFileError(f"{error.filename}: {error.strerror}") from error
        except (ElementTree.ParseError, KeyError, ValueError, AttributeError) as error:
            raise ModelFileError(f"{path}: expected a network of OpenVINO: {error!r}") from error
        unknown = sorted({op.kind for op in self._operations} - set(OPERATIONS))
        if unknown:
            raise ModelFileError(f"{path}: operations not known here: {', '.join(unknown)}")
        self.name = path.stem

    def _read(
        self,
        layers: dict[int, ElementTree.Element],
        edges: dict[int, tuple[int, ...]],
        weights: bytes,
    ) -> None:
        self._operations: list[Operation] = []
        self._weights: dict[int, str] = {}
        self._integers: dict[int, Tensor] = {}
        given, shape = [], ""
        for number in _in_order(layers, edges):
            layer = layers[number]
            kind, data = layer.attrib["type"], layer.find("data")
            settings = dict(data.attrib) if data is not None else {}
            if kind == "Parameter":
                given.append(number)
                shape = settings["shape"]
            elif kind == "Const":
                constant = _constant(settings, weights)
                if constant.is_floating_point():
                    self._weights[number] = f"weight_{number}"
                    self.register_buffer(self._weights[number], constant, persistent=False)
                else:  # shapes and axes, which stay where Python reads them
                    self._integers[number] = constant
            elif kind == "Result":
                self._last = edges[number][0]
            else:
                self._operations.append(Operation(kind, settings, edges.get(number, ()), number))
        sides = [int(side) for side in shape.split(",")]
        if len(given) != 1 or len(sides) != 4 or sides[1] != 3:
            raise ValueError(f"one input 1 × 3 × H × W expected, got {len(given)} of {shape!r}")
        self._given, self.height, self.width = given[0], sides[2], sides[3]

    def forward(self, pixels: Tensor) -> Tensor:
        """The output [N, D] of pictures [N, 3, H, W]: BGR in 0 … 255, unless it says otherwise."""
        made: dict[int, Tensor] = {self._given: pixels, **self._integers}
        made |= {number: getattr(self, name) for number, name in self._weights.items()}
        for operation in self._operations:
            inputs = [made[number] for number in operation.inputs]
            made[operation.output] = OPERATIONS[operation.kind](inputs, operation.settings)
        return made[self._last].flatten(1)


def _described(path: Path) -> tuple[dict[int, ElementTree.Element], dict[int, tuple[int, ...]]]:
    """Its layers, and of each where its inputs come from."""
    root = ElementTree.parse(path).getroot()
    layers = {int(layer.attrib["id"]): layer for layer in root.iterfind("layers/layer")}
    ports: dict[int, list[tuple[int, int]]] = {}
    for edge in root.iterfind("edges/edge"):
        to = int(edge.attrib["to-layer"])
        ports.setdefault(to, []).append(
            (int(edge.attrib["to-port"]), int(edge.attrib["from-layer"]))
        )
    return layers, {to: tuple(source for _, source in sorted(of)) for to, of in ports.items()}


def _in_order(
    layers: dict[int, ElementTree.Element], edges: dict[int, tuple[int, ...]]
) -> list[int]:
    """Layers after those they take from."""
    order: list[int] = []
    done: set[int] = set()
    for start in layers:
        waiting = [start]
        while waiting:
            number = waiting[-1]
            missing = [source for source in edges.get(number, ()) if source not in done]
            if missing and number not in done:
                waiting += missing
                continue
            waiting.pop()
            if number not in done:
                done.add(number)
                order.append(number)
    return order


def _constant(settings: dict[str, str], weights: bytes) -> Tensor:
    shape = [int(side) for side in settings["shape"].split(",") if side]
    first, size = int(settings["offset"]), int(settings["size"])
    kind = ELEMENTS[settings["element_type"]]
    array = np.frombuffer(weights[first : first + size], kind).reshape(shape)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(np.int64))


def _pair(text: str) -> tuple[int, int]:
    first, second = (int(part) for part in text.split(","))
    return first, second


def _padding(settings: dict[str, str]) -> tuple[int, int]:
    before, after = _pair(settings["pads_begin"]), _pair(settings["pads_end"])
    if before != after or settings.get("auto_pad", "explicit") not in ("explicit", "valid"):
        raise ModelFileError(f"padding of this kind is not known here: {settings}")
    return before


def _convolution(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    maps, weight = inputs
    groups = 1
    if weight.ndim == 5:  # of a group convolution: groups first
        groups = int(weight.shape[0])
        weight = weight.flatten(0, 1)
    return functional.conv2d(
        maps, weight.to(maps), stride=_pair(settings["strides"]), padding=_padding(settings),
        dilation=_pair(settings["dilations"]), groups=groups,
    )  # fmt: skip


def _max_pool(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    return functional.max_pool2d(
        inputs[0], _pair(settings["kernel"]), _pair(settings["strides"]), _padding(settings),
        ceil_mode=settings.get("rounding_type") == "ceil",
    )  # fmt: skip


def _average_pool(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    return functional.avg_pool2d(
        inputs[0], _pair(settings["kernel"]), _pair(settings["strides"]), _padding(settings),
        ceil_mode=settings.get("rounding_type") == "ceil",
        count_include_pad=settings["exclude-pad"] == "false",
    )  # fmt: skip


def _normalized(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    """Zero mean and unit variance over the given axes ("MVN")."""
    values, axes = inputs[0], [int(axis) for axis in inputs[1]]
    if settings["normalize_variance"] != "true" or settings["eps_mode"] != "INSIDE_SQRT":
        raise ModelFileError(f"normalization of this kind is not known here: {settings}")
    wide = values.float()
    variance, mean = torch.var_mean(wide, dim=axes, correction=0, keepdim=True)
    made = (wide - mean) * torch.rsqrt(variance + float(settings["eps"]))
    return made.to(values.dtype)


def _reshaped(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    """A 1 in the place of the batch, which files have fixed, stands for any batch."""
    values, wanted = inputs[0], [int(side) for side in inputs[1]]
    sides = [int(values.shape[i]) if side == 0 else side for i, side in enumerate(wanted)]
    if sides and sides[0] == 1 and values.ndim > 1:
        sides[0] = int(values.shape[0])
    return values.reshape(sides)


def _product(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    first, second = inputs[0], inputs[1].to(inputs[0])
    if settings.get("transpose_a") == "true":
        first = first.mT
    return first @ (second.mT if settings.get("transpose_b") == "true" else second)


def _gathered(inputs: list[Tensor], settings: dict[str, str]) -> Tensor:
    values, places, axis = inputs
    made = torch.index_select(values, int(axis), places.flatten().to(values.device))
    return made if places.ndim else made.squeeze(int(axis))


Computed = Callable[[list[Tensor], dict[str, str]], Tensor]
OPERATIONS: dict[str, Computed] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1].to(inputs[0].dtype),
    "AvgPool": _average_pool,
    "Concat": lambda inputs, settings: torch.cat(inputs, dim=int(settings["axis"])),
    "Convert": lambda inputs, _: inputs[0],
    "Convolution": _convolution,
    "Gather": _gathered,
    "GroupConvolution": _convolution,
    "MVN": _normalized,
    "MatMul": _product,
    "MaxPool": _max_pool,
    "Multiply": lambda inputs, _: inputs[0] * inputs[1].to(inputs[0].dtype),
    "PReLU": lambda inputs, _: functional.prelu(inputs[0], inputs[1].flatten().to(inputs[0])),
    "ReLU": lambda inputs, _: functional.relu(inputs[0]),
    "ReduceMean": lambda inputs, settings: inputs[0].mean(
        dim=[int(axis) for axis in inputs[1].flatten()],
        keepdim=settings.get("keep_dims") == "true",
    ),
    "Reshape": _reshaped,
    "ShapeOf": lambda inputs, _: torch.tensor(inputs[0].shape),
    "Sigmoid": lambda inputs, _: torch.sigmoid(inputs[0]),
    "Subtract": lambda inputs, _: inputs[0] - inputs[1].to(inputs[0].dtype),
}
"""What is known here: what networks for re-identification are made of. Numbers keep float32: a
"Convert" between floats has nothing to do."""
