"""Online instance matching: identities compared with a memory of those seen before."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class OimLoss(nn.Module):
    """Cross-entropy against a lookup table of labeled people and a queue of unlabeled ones.

    Table, queue and the queue's position are buffers, so a checkpoint holds all of the loss.
    The memory changes in `update`, which the training loop calls after the backward pass; the
    published code changes it inside the backward pass, with the same result.

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
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """Mean cross-entropy over the labeled people.

        Args:
            embeddings: [N, dim], unit length.
            person_ids: [N], an identity or −1 for a person whom nobody named.

        Returns:
            A scalar; 0 when nobody is labeled (the published code gives NaN there).
        """
        self._seen.append((embeddings.detach(), person_ids))
        labeled = person_ids >= 0
        if not labeled.any():
            return embeddings.sum() * 0
        memory = torch.cat([self.lookup_table, self.circular_queue]).clone()
        logits = self.scalar * embeddings[labeled] @ memory.T
        return functional.cross_entropy(logits, person_ids[labeled])

    @torch.no_grad()
    def update(self) -> None:
        """Remember the people of the last forward passes, row by row, in order."""
        for embeddings, person_ids in self._seen:
            for row, person in zip(embeddings, person_ids.tolist(), strict=True):
                if person >= 0:
                    kept = self.momentum * self.lookup_table[person]
                    mixed = kept + (1 - self.momentum) * row
                    self.lookup_table[person] = mixed / mixed.norm()
                elif len(self.circular_queue):
                    self.circular_queue[self.queue_head] = row
                    self.queue_head.add_(1).remainder_(len(self.circular_queue))
        self._seen.clear()
