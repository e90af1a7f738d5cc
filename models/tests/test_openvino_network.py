"""Networks in OpenVINO's format, computed by torch: as OpenVINO computes them."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino", reason="torch is compared with OpenVINO")

import openvino
import torch
from openvino import opset13 as ops

from models.errors import ModelFileError
from models.nn.openvino_network import OpenVinoNetwork

RNG = np.random.default_rng(0)


def weights(*shape):
    return ops.constant(RNG.normal(0, 0.3, shape).astype(np.float32))


def saved(output, given, path, *, halved=False):
    openvino.save_model(openvino.Model([output], [given], "network"), str(path), halved)
    return path


def of_all_kinds(given):
    """Every operation that is known, in the ways in which re-identification networks use them."""
    one = ops.constant(np.array([2, 1, 0], np.int32))
    axis = ops.constant(np.array(0, np.int32) + 1)
    maps = ops.gather(given, one, axis)
    maps = ops.subtract(maps, ops.constant(np.full((1, 3, 1, 1), 120, np.float32)))
    maps = ops.multiply(maps, ops.constant(np.full((1, 3, 1, 1), 0.02, np.float32)))
    maps = ops.convolution(maps, weights(8, 3, 7, 7), [2, 2], [3, 3], [3, 3], [1, 1])
    maps = ops.mvn(maps, ops.constant(np.array([2, 3])), True, 1e-5, "INSIDE_SQRT")
    maps = ops.relu(maps)
    maps = ops.max_pool(maps, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    beside = ops.group_convolution(maps, weights(8, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    gate = ops.reduce_mean(beside, ops.constant(np.array([2, 3])), keep_dims=True)
    gate = ops.sigmoid(ops.convolution(gate, weights(8, 8, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
    maps = ops.add(maps, ops.multiply(beside, gate))
    maps = ops.avg_pool(maps, [2, 2], [0, 0], [0, 0], [2, 2], True)
    size = ops.gather(ops.shape_of(maps), ops.constant(np.array([0])), ops.constant(np.array(0)))
    flat = ops.concat([size, ops.constant(np.array([-1]))], 0)
    row = ops.reshape(maps, flat, True)
    answer = ops.matmul(row, weights(5, 8 * 4 * 2), False, True)
    return ops.prelu(answer, ops.constant(np.array([0.2], np.float32)))


def test_all_operations_give_what_openvino_gives_for_any_batch(tmp_path):
    given = ops.parameter([1, 3, 32, 16], np.float32, name="data")
    path = saved(of_all_kinds(given), given, tmp_path / "all.xml", halved=True)
    pictures = RNG.uniform(0, 255, (3, 3, 32, 16)).astype(np.float32)

    network = OpenVinoNetwork(path)
    ours = network(torch.from_numpy(pictures)).numpy()

    theirs = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = np.concatenate([theirs(picture[None])[0] for picture in pictures])
    assert ours.shape == (3, 5) and (network.height, network.width) == (32, 16)
    np.testing.assert_allclose(ours, wanted, atol=1e-4, rtol=1e-4)


def test_an_operation_that_is_not_known_is_named(tmp_path):
    given = ops.parameter([1, 3, 8, 8], np.float32, name="data")
    turned = ops.erf(ops.reduce_mean(given, ops.constant(np.array([2, 3])), keep_dims=False))
    path = saved(turned, given, tmp_path / "odd.xml")

    with pytest.raises(ModelFileError, match=r"odd\.xml: operations not known here: Erf"):
        OpenVinoNetwork(path)


@pytest.mark.parametrize("content", ["", "<net/>", "<net><layers><layer/></layers></net>"])
def test_what_is_no_network_is_refused_by_name(tmp_path, content):
    path = tmp_path / "none.xml"
    path.write_text(content)
    path.with_suffix(".bin").write_bytes(b"")

    with pytest.raises(ModelFileError, match=r"none\.xml: expected a network of OpenVINO"):
        OpenVinoNetwork(path)
    with pytest.raises(ModelFileError, match=r"missing\.xml: No such file"):
        OpenVinoNetwork(tmp_path / "missing.xml")


def test_another_input_is_refused(tmp_path):
    given = ops.parameter([1, 1, 8, 8], np.float32, name="data")
    path = saved(ops.relu(given), given, tmp_path / "grey.xml")

    with pytest.raises(ModelFileError, match="one input 1 × 3 × H × W expected"):
        OpenVinoNetwork(path)
