"""What two processes put together is what one process has."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from models.nn.joint import (  # noqa: E402
    JointBatchNorm,
    gather_rows,
    joint_count,
    with_joint_batch_norm,
    world_size,
)
from models.tests.joint_process import SPLITS, network, pictures, step  # noqa: E402

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes saw."""
    directory = tmp_path_factory.mktemp("joint")
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "models.tests.joint_process", str(rank), str(directory)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [torch.load(directory / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("split", SPLITS)
def test_joint_batch_norm_equals_batch_norm_of_the_joint_batch(two, split):
    parts, (inputs, weights) = SPLITS[split], pictures()
    rows = slice(0, parts[1].stop)
    alone = network()
    expected = step(alone, inputs[rows], weights[rows])

    first, second = (results[split] for results in two)
    for name in ("outputs", "for_inputs"):
        together = torch.cat([first[name], second[name]])
        torch.testing.assert_close(together, expected[name], rtol=1e-5, atol=1e-5)
    for name, parameter in alone.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                first[name] + second[name], expected[name], rtol=1e-4, atol=1e-4
            )
    for results in (first, second):
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(results["state"][name], tensor, rtol=1e-6, atol=1e-6)


def test_parameters_that_do_not_learn_get_no_gradient(two):
    assert "7.weight" not in two[0]["even"]
    assert "6.weight" in two[0]["even"]


def test_joint_batch_norm_keeps_the_type_of_what_it_gets(two):
    assert two[0]["bfloat16"] == torch.bfloat16


def test_a_single_value_in_all_processes_is_refused(two):
    assert "more than one value, got 1" in two[0]["one value"]
    assert two[1]["one value"] == two[0]["one value"]


def test_counts_are_averaged_over_the_processes(two):
    for results in two:
        assert results["world_size"] == 2
        assert results["count"] == 5
        assert results["tensor count"] == 2
        assert results["count"].dtype == torch.float32


def test_rows_of_all_processes_come_in_the_order_of_their_ranks(two):
    expected = [0, 1, 2, 3, *range(100, 110)]
    for results in two:
        assert results["rows"].flatten().tolist() == expected
        assert results["no rows"].shape == (0, 2)
        assert results["some"].flatten().tolist() == [*range(100, 106)]
        assert results["floats"].tolist() == [[0, 0], [0.5, 0.5]]
        assert not results["floats"].requires_grad


def test_alone_everything_is_the_plain_thing():
    rows = torch.arange(4.0).reshape(2, 2).requires_grad_()

    assert world_size() == 1
    assert joint_count(3) == 3
    assert torch.equal(gather_rows(rows), rows.detach())
    assert not gather_rows(rows).requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_alone_joint_batch_norm_equals_batch_norm(training):
    inputs, weights = pictures()
    plain, joint = network().train(training), with_joint_batch_norm(network().train(training))

    expected, got = step(plain, inputs, weights), step(joint, inputs, weights)

    assert sum(isinstance(module, JointBatchNorm) for module in joint.modules()) == 3
    for name in expected:
        assert torch.equal(got[name], expected[name]), name
    for name, tensor in plain.state_dict().items():
        assert torch.equal(joint.state_dict()[name], tensor), name


def test_parameters_and_names_survive_the_exchange():
    plain = network()
    before = dict(plain.named_parameters())

    joint = with_joint_batch_norm(plain)

    assert joint is plain
    assert all(parameter is before[name] for name, parameter in joint.named_parameters())
    assert list(joint.state_dict()) == list(network().state_dict())
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in joint.modules())
