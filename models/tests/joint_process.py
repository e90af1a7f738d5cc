"""One of two processes: python -m models.tests.joint_process RANK DIRECTORY; see test_joint.py."""

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from models.nn.joint import gather_rows, joint_count, with_joint_batch_norm, world_size


def network():
    """Batch norm over pictures and over rows, both with some history; the last does not learn."""
    torch.manual_seed(5)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4, momentum=0.2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.BatchNorm1d(5, eps=1e-3),
        nn.BatchNorm1d(5),
    )
    for norm in (made[1], made[6]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias)
        norm.running_mean.uniform_()
    for parameter in made[7].parameters():
        parameter.requires_grad_(False)
    return made


def pictures():
    """Seven pictures, far from zero mean, and what their outputs are multiplied by."""
    generator = torch.Generator().manual_seed(6)
    return (
        torch.randn(7, 3, 6, 5, generator=generator) + 3,
        torch.randn(7, 5, generator=generator),
    )


# Processes with as many rows, with more and fewer, and with none.
SPLITS = {"even": (slice(0, 3), slice(3, 6)), "uneven": (slice(0, 5), slice(5, 7)),
          "none": (slice(0, 7), slice(7, 7))}  # fmt: skip


def step(network, inputs, weights):
    """The sum of weighted outputs, differentiated; outputs and gradients."""
    inputs = inputs.clone().requires_grad_()
    outputs = network(inputs)
    (outputs * weights).sum().backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    return {"outputs": outputs.detach(), "for_inputs": inputs.grad, **gradients}


def main(rank, directory):
    distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2
    )
    results = {"world_size": world_size()}
    for name, parts in SPLITS.items():
        joint = with_joint_batch_norm(network())
        inputs, weights = pictures()
        results[name] = step(joint, inputs[parts[rank]], weights[parts[rank]])
        results[name]["state"] = joint.state_dict()
    half = with_joint_batch_norm(nn.Sequential(nn.BatchNorm2d(3)))
    results["bfloat16"] = half(pictures()[0][SPLITS["even"][rank]].bfloat16()).dtype
    try:
        half(torch.zeros(1 - rank, 3, 1, 1))
    except ValueError as error:
        results["one value"] = str(error)
    results["count"] = joint_count(3 + 4 * rank)
    results["tensor count"] = joint_count(torch.tensor(2.5 - rank))
    for name, counts in {"rows": (2, 5), "no rows": (0, 0), "some": (0, 3)}.items():
        own = torch.arange(counts[rank] * 2).reshape(-1, 2) + 100 * rank
        results[name] = gather_rows(own)
    results["floats"] = gather_rows(torch.full((1, 2), rank / 2, requires_grad=True))
    torch.save(results, Path(directory) / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
