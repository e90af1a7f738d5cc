"""One batch over several processes: counts, rows and batch norm of the whole batch.

Each process of a training computes its own slice of the batch, and
`DistributedDataParallel` averages the gradients. What is more than an average – a mean over
sampled regions, the statistics of batch norm, the memory of the identity loss – is put together
here, so that the number of processes does not change what is learned. Outside a process group
everything here is the plain thing.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function


def world_size() -> int:
    """How many processes share a batch; 1 outside a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_world_size())
    return 1


def joint_count(count: int | Tensor) -> Tensor:
    """The mean over the processes of a count, a float32 scalar without gradient.

    A process's sum divided by this, averaged over the processes as their gradients are, is the
    mean over the joint batch, also where the processes' counts differ.
    """
    return joint_mean(torch.as_tensor(count, dtype=torch.float32, device=shared_device()))


def joint_mean(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes, without gradient."""
    total = values.detach().clone()
    processes = world_size()
    if processes > 1:
        distributed.all_reduce(total)
        total /= processes
    return total


def shared_device() -> torch.device:
    """The device of the tensors that the processes exchange."""
    nccl = world_size() > 1 and distributed.get_backend() == "nccl"
    return torch.device("cuda" if nccl else "cpu")


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks, without gradient.

    Args:
        rows: [N, …]; N may differ between the processes, the other sides may not.

    Returns:
        [M, …], M the sum of all N; on each process the same.
    """
    rows = rows.detach()
    processes = world_size()
    if processes == 1:
        return rows
    own = torch.tensor([len(rows)], device=rows.device)
    gathered = [torch.empty_like(own) for _ in range(processes)]
    distributed.all_gather(gathered, own)
    counts = [int(count) for count in gathered]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    if not len(padded):
        return rows
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(processes)]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class JointBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics in training are those of all processes together.

    Parameters and buffers have the names that `BatchNorm1d` and `BatchNorm2d` give them. Unlike
    torch's `SyncBatchNorm` it also works on a CPU. A process may have no rows at all.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [N, C, …]; in evaluation, or with one process, as plain batch norm does."""
        if not self.training or world_size() == 1:
            plain: Tensor = super().forward(input)
            return plain
        self._check_input_dim(input)
        mean, squares, count = _joint_moments(input.detach())
        # The first condition is known without waiting for a GPU, and false for all but the oddest.
        if input.numel() <= input.shape[1] and count <= 1:
            raise ValueError(f"batch norm in training needs more than one value, got {count:.0f}")
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.float(), share)
            self.running_var.lerp_((squares / (count - 1)).float(), share)
        scale = torch.rsqrt(squares / count + self.eps)
        mean, scale = mean.float(), scale.float()
        normalized: Tensor = _Normalize.apply(input, self.weight, self.bias, mean, scale, count)
        return normalized

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected [N, C, …], got {input.dim()} dimensions")


def with_joint_batch_norm(network: nn.Module) -> nn.Module:
    """Put `JointBatchNorm` in place of each batch norm in a network, which is returned.

    Parameters and buffers stay the very same tensors.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, _joint(child))
    return network


def _joint(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> JointBatchNorm:
    joint = JointBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum, device="meta")
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(joint, name, tensor)
    joint.train(norm.training)
    return joint


def _joint_moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per channel [C] the mean and the sum of squares around it; a scalar, how many values.

    Means and squares are put together from those of the processes, which loses no digits where
    the mean is large, as a difference of sums of squares would.
    """
    values = values.float()
    count = values.numel() // values.shape[1]
    mean = _summed(values) / max(count, 1)
    squares = _summed((values - _along_channels(mean.float(), values)).square())
    own = torch.cat([mean, squares, mean.new_tensor([count])])
    gathered = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(gathered, own)
    every = torch.stack(gathered).double()
    channels = len(mean)
    means, all_squares, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
    total = counts.sum()
    mean_of_all = (counts * means).sum(0) / total.clamp(min=1)
    joint_squares = (all_squares + counts * (means - mean_of_all).square()).sum(0)
    return mean_of_all, joint_squares, total


class _Normalize(Function):
    """(input − mean) · scale · weight + bias, differentiated through the joint mean and scale."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        scale: Tensor,
        count: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, mean, scale, count)
        centred = input.float() - _along_channels(mean, input)
        return (
            centred.mul_(_along_channels(scale * weight, input))
            .add_(_along_channels(bias, input))
            .to(input.dtype)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradients[0].float()
        unit = (input.float() - _along_channels(mean, input)).mul_(_along_channels(scale, input))
        own = torch.cat([_summed(gradient), _summed(gradient * unit)])
        for_bias, for_weight = own.float().chunk(2)
        distributed.all_reduce(own)
        by_mean, by_scale = (own / count).float().chunk(2)
        through = gradient - _along_channels(by_mean, input)
        through -= unit.mul_(_along_channels(by_scale, input))
        through *= _along_channels(scale * weight, input)
        return through.to(input.dtype), for_weight, for_bias, None, None, None


def _summed(values: Tensor) -> Tensor:
    """Sums of [N, C, …] by channel; on a CPU in double precision, as torch's batch norm has it."""
    sides = [side for side in range(values.dim()) if side != 1]
    return values.sum(sides, dtype=torch.float64 if values.device.type == "cpu" else None)


def _along_channels(row: Tensor, like: Tensor) -> Tensor:
    """A row [C] in the shape that multiplies [N, C, …]."""
    return row.reshape(1, -1, *[1] * (like.dim() - 2))
