"""Online instance matching: identities compared with a memory of those seen before."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nn.joint import gather_rows, joint_count

FADING = 0.99
"""What the weights of `SmrOimLoss` are multiplied by with each update."""


class OimLoss(nn.Module):
    """Cross-entropy against a lookup table of labeled people and a queue of unlabeled ones.

    Table, queue and the queue's position are buffers, so a checkpoint holds all of the loss.
    The memory changes in `update`, which the training loop calls after the backward pass; the
    published code changes it inside the backward pass, with the same result. Where several
    processes share a batch, each remembers the people of all, in the order of the joint batch.

    Reference:
        Xiao et al., Joint Detection and Identification Feature Learning, CVPR 2017, section 3.2.
    """

    lookup_table: Tensor
    circular_queue: Tensor
    queue_head: Tensor

    def __init__(
        self,
        num_ids: int,
        *,
        dim: int = 256,
        queue_size: int = 5000,
        momentum: float = 0.5,
        scalar: float = 30.0,
    ) -> None:
        """Make an empty memory.

        Args:
            num_ids: labeled identities, 0 … num_ids − 1.
            dim: length of an embedding.
            queue_size: unlabeled people that are remembered.
            momentum: share of the old entry that stays when an identity is seen again.
            scalar: what similarities are multiplied by before the softmax.
        """
        super().__init__()
        self.momentum = momentum
        self.scalar = scalar
        self.register_buffer("lookup_table", torch.zeros(num_ids, dim))
        self.register_buffer("circular_queue", torch.zeros(queue_size, dim))
        self.register_buffer("queue_head", torch.zeros((), dtype=torch.long))
        self._seen: list[tuple[Tensor, ...]] = []

    def forward(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """Mean cross-entropy over the labeled people of the joint batch.

        Args:
            embeddings: [N, dim], of unit length or shorter.
            person_ids: [N], an identity or −1 for a person whom nobody named.

        Returns:
            A scalar; 0 when nobody is labeled (the published code gives NaN there).
        """
        self._see(embeddings.detach(), person_ids)
        labeled = person_ids >= 0
        count = joint_count(int(labeled.sum())).to(embeddings)
        if not labeled.any():
            return embeddings.sum() * 0
        memory = torch.cat([self.lookup_table, self.circular_queue]).clone()
        logits = self.scalar * embeddings[labeled] @ memory.T
        loss = functional.cross_entropy(logits, person_ids[labeled], reduction="sum")
        return loss / count

    @torch.no_grad()
    def update(self) -> None:
        """Remember the people of the last forward passes, row by row, in order."""
        for seen in self._seen:
            rows = [gather_rows(part) for part in seen]
            for person, *row in zip(rows[1].tolist(), rows[0], *rows[2:], strict=True):
                if person >= 0:
                    kept = self.momentum * self.lookup_table[person]
                    mixed = kept + (1 - self.momentum) * row[0]
                    self.lookup_table[person] = mixed / mixed.norm()
                elif len(self.circular_queue):
                    self._remember_unlabeled(*row)
        self._seen.clear()

    def _see(self, embeddings: Tensor, person_ids: Tensor) -> None:
        self._seen.append((embeddings, person_ids))

    def _remember_unlabeled(self, *row: Tensor) -> None:
        self.circular_queue[self.queue_head] = row[0]
        self.queue_head.add_(1).remainder_(len(self.circular_queue))


class SmrOimLoss(OimLoss):
    """OIM whose queue drops the entry that is least like the labeled people.

    An entry's weight is its largest similarity to a labeled identity by its largest to the queue,
    when it came; it fades with each update. Of the published NAE code's `--smr`; no paper of its
    authors describes it, and their recipe leaves it off.
    """

    queue_weights: Tensor

    def __init__(self, *sizes: Any, **options: Any) -> None:
        """Make an empty memory; arguments as for `OimLoss`."""
        super().__init__(*sizes, **options)
        self.register_buffer("queue_weights", torch.zeros(len(self.circular_queue)))

    @torch.no_grad()
    def update(self) -> None:
        """Remember the people of the last forward passes, row by row, in order; then fade."""
        passes = len(self._seen)
        super().update()
        self.queue_weights *= FADING**passes

    def _see(self, embeddings: Tensor, person_ids: Tensor) -> None:
        if len(self.lookup_table) and len(self.circular_queue) and len(embeddings):
            to_labeled = (embeddings @ self.lookup_table.T).amax(dim=1)
            weights = to_labeled / (embeddings @ self.circular_queue.T).amax(dim=1)
        else:
            weights = embeddings.new_zeros(len(embeddings))
        self._seen.append((embeddings, person_ids, weights))

    def _remember_unlabeled(self, *row: Tensor) -> None:
        embedding, weight = row
        # Of an empty queue the weights are 0 / 0; as in the published code a NaN is the least,
        # so that the entry is written over until it has a weight.
        least, place = self.queue_weights.min(dim=0)
        if not weight < least:
            self.circular_queue[place] = embedding
            self.queue_weights[place] = weight
