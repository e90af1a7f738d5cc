"""A network that tells people apart, asked while another learns: about the very views it sees."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.ops import roi_align

from models.errors import PersonSearchError
from models.nn.joint import gather_rows, joint_mean
from models.nn.openvino_network import OpenVinoNetwork

SETTLED = 20_000
"""Answers whose mean is taken from every answer."""
REMEMBERED = 0.8
"""Of what is known of a person, so much stays when they are seen again."""


class LiveTeacher(nn.Module):
    """Answers about people in pictures, as the losses take them: unit vectors about their mean.

    What it remembers, the mean of its first answers and of each person, is part of a run's state.
    """

    mean: Tensor
    asked: Tensor
    people: Tensor

    def __init__(self, path: Path, *, dim: int, num_ids: int, mean_share: float = 0.0) -> None:
        """Read the network.

        Args:
            path: its .xml (OpenVINO); it takes BGR in 0 … 255.
            dim: length of an embedding, which its answers must have.
            num_ids: people with a number.
            mean_share: of an answer about such a person, so much is the mean of those before.

        Raises:
            ModelFileError: it cannot be read.
            PersonSearchError: its answers have another length.
        """
        super().__init__()
        network = OpenVinoNetwork(path)
        with torch.no_grad():
            length = int(network(torch.zeros(1, 3, network.height, network.width)).shape[1])
        if length != dim:
            raise PersonSearchError(
                f"{path}: its answers have {length} numbers, and an embedding {dim}"
            )
        self._network = (network,)  # in a tuple it is no part of the state
        self._mean_share = mean_share
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("asked", torch.zeros(()))
        self.register_buffer("people", torch.zeros(num_ids, dim))

    def place(
        self,
        device: torch.device,
        precision: torch.dtype | None = None,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """Compute on a device, in float32 or another precision, maps laid out so in memory."""
        self.to(device)
        self._precision, self._layout = precision or torch.float32, layout
        self._network[0].to(device, dtype=self._precision)

    @torch.no_grad()
    def answers(self, pictures: Tensor, boxes: list[Tensor], person_ids: Tensor) -> Tensor:
        """About the people in some boxes.

        Args:
            pictures: [N, 3, H, W], RGB in [0, 1].
            boxes: of each picture [K, 4], x1 y1 x2 y2 in its pixels.
            person_ids: of all K [M]; −1 is nobody known.

        Returns:
            [M, D], of unit length.
        """
        if not len(person_ids):
            return self.mean.new_zeros(0, len(self.mean))
        network = self._network[0]
        sides = network.height, network.width
        seen = roi_align(pictures, boxes, sides, sampling_ratio=2, aligned=True)
        seen = (seen.flip(1) * 255).to(self._precision, memory_format=self._layout)
        answers = normalize(network(seen).float())
        self._settle(answers)
        answers = normalize(answers - self.mean)
        known = person_ids >= 0
        if self._mean_share and len(self.people):
            answers = self._with_means(answers, person_ids.clamp(min=0), known)
        return answers

    def _settle(self, answers: Tensor) -> None:
        """Let the first answers count in the mean."""
        if self.asked >= SETTLED:
            return
        total = joint_mean(torch.cat([answers.sum(dim=0), answers.new_tensor([len(answers)])]))
        count = total[-1]
        self.mean += (total[:-1] - count * self.mean) / (self.asked + count)
        self.asked += count

    def _with_means(self, answers: Tensor, person_ids: Tensor, known: Tensor) -> Tensor:
        new = self.people.abs().amax(dim=1, keepdim=True) == 0
        before = torch.where(new[person_ids], answers, self.people[person_ids])
        mixed = torch.lerp(answers, before, self._mean_share)
        weights = known[:, None].to(answers)
        joint_ids, joint = gather_rows(person_ids), gather_rows(answers * weights)
        seen = gather_rows(weights)
        sums = torch.zeros_like(self.people).index_add_(0, joint_ids, joint)
        counts = self.people.new_zeros(len(self.people), 1).index_add_(0, joint_ids, seen)
        stays = torch.where(new, 0.0, REMEMBERED)
        renewed = stays * self.people + (1 - stays) * sums / counts.clamp(min=1)
        self.people = torch.where(counts > 0, normalize(renewed), self.people)
        return torch.where(known[:, None], normalize(mixed), answers)
