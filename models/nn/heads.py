"""The heads: what turns pooled region features into an embedding and a detection score."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from models.nn.nae_head import NaeHead
from models.nn.nae_parts_head import NaePartsHead
from models.nn.nae_plus_head import NaePlusHead
from models.nn.oim_head import OimHead
from models.nn.sampling import SampledRegions


class Head(Protocol):
    """What the second half of the network needs of a head; `NaeHead` says what each gives."""

    def __call__(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]: ...

    def pool(self, head_map: Tensor) -> Tensor: ...

    def detection_loss(self, logits: Tensor, sampled: Sequence[SampledRegions]) -> Tensor: ...

    def scores(self, logits: Tensor) -> Tensor: ...


HEADS: dict[str, Callable[..., Head]] = {
    "nae": NaeHead,
    "nae_parts": NaePartsHead,
    "nae_plus": NaePlusHead,
    "nae_plus_res5": partial(NaePlusHead, fuse=False),
    "oim": OimHead,
}
