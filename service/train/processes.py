"""The processes of one training, as torchrun starts them; without torchrun it is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad

from models.errors import PersonSearchError
from models.nn.joint import shared_device

# The first process writes checkpoints and evaluates while the others wait in their next step.
# torchrun ends them all when one fails, so no time limit is needed to notice that.
PATIENCE = timedelta(days=7)
# One that ends before it has met the others would leave them waiting for as long.
ARRIVAL = timedelta(minutes=10)


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: 0 writes the log, the checkpoints and the model.
        count: how many there are.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    def slice(self, batch_size: int) -> slice:
        """The part of a joint batch that this process computes.

        Raises:
            PersonSearchError: the batch cannot be shared evenly.
        """
        if batch_size % self.count:
            raise PersonSearchError(
                f"--batch-size {batch_size} is the batch of all processes together, and cannot be "
                f"shared evenly by {self.count}"
            )
        own = batch_size // self.count
        return slice(self.rank * own, (self.rank + 1) * own)


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """Be one of the processes that share the batches of a training.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        PersonSearchError: there is no GPU, or not one for each process; the others do not come; or
            torchrun would start the processes again without a way to find each other.
    """
    place = _place(device)
    if place.count == 1:
        yield place
        return
    _refuse_stale_addresses()
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=_meeting(place), rank=place.rank, world_size=place.count, timeout=PATIENCE
    )
    try:
        yield place
    finally:
        distributed.destroy_process_group()


def run_id() -> str | None:
    """The id of this run, the same after torchrun started it again; None where it has none."""
    given = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # torchrun's own default
    return None if given == "none" else given


def agreed(answer: bool) -> bool:
    """The first process's answer, in all of them."""
    if not distributed.is_initialized():
        return answer
    shared = torch.tensor([int(answer)], device=shared_device())
    distributed.broadcast(shared, 0)
    return bool(shared.item())


def padded_alike(images: Tensor) -> Tensor:
    """Pixels [N, 3, H, W] with more zeros, so that H and W are those of the joint batch.

    What a network makes of a scene depends a little on the padding around it.
    """
    if not distributed.is_initialized():
        return images
    height, width = images.shape[2:]
    most = torch.tensor([height, width], device=shared_device())
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    joint_height, joint_width = most.tolist()
    padded: Tensor = pad(images, (0, joint_width - width, 0, joint_height - height))
    return padded


def _meeting(place: Place) -> distributed.Store:
    """Where processes exchange their addresses, once all of them are there."""
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=ARRIVAL))
        store.set(f"arrived/{place.rank}", "")
        store.wait([f"arrived/{rank}" for rank in range(place.count)], ARRIVAL)
    except distributed.DistError as error:
        raise PersonSearchError(
            f"of {place.count} processes not all came within {ARRIVAL.total_seconds():.0f} s; what "
            f"torchrun printed on the other machines tells why ({error})"
        ) from error
    return store


def _refuse_stale_addresses() -> None:
    """Refuse restarts in which processes would look for those that ended (pytorch issue 135712).

    The store by which processes find each other is then torchrun's own. It outlives them, with the
    addresses of those that ended: a process that reads one waits there for days.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise PersonSearchError(
            f"--max-restarts {restarts} needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the "
            "environment of every torchrun: otherwise processes that are started again look for "
            "those that ended"
        )


def _place(device: str) -> Place:
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ["RANK"]) if count > 1 else 0
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return Place(rank, count, torch.device("cpu"))
    if not torch.cuda.is_available():
        raise PersonSearchError("device cuda was asked for, but torch sees no GPU")
    if count == 1:
        return Place(rank, count, torch.device("cuda"))
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise PersonSearchError(
            f"process {local} of this machine has no GPU: torch sees {gpus}; start as many "
            "processes as there are GPUs"
        )
    torch.cuda.set_device(local)
    return Place(rank, count, torch.device("cuda", local))
