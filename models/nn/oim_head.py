"""The OIM baseline: a classifier says "person", a unit vector beside it says who."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.nn.nae_head import person_loss
from models.nn.projector import TwoProjectors
from models.nn.sampling import SampledRegions


class OimHead(nn.Module):
    """Softmax classification and an L2-normalized embedding, on the features that NAE uses.

    The same projectors, pooling and box regression as `NaeHead`, so that the two differ in one
    idea: here the embedding's norm is thrown away.

    Reference:
        Xiao et al., Joint Detection and Identification Feature Learning, CVPR 2017.
    """

    def __init__(self, trunk_channels: int, head_channels: int, *, dim: int = 256) -> None:
        super().__init__()
        self.projectors = TwoProjectors(trunk_channels, head_channels, dim)
        self.classifier = nn.Linear(head_channels, 2)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, trunk_map: Tensor, head_map: Tensor) -> tuple[Tensor, Tensor]:
        """Describe regions.

        Args:
            trunk_map: [R, trunk_channels, h, w], aligned regions of the trunk's feature map.
            head_map: [R, head_channels, h', w'], what the box head made of them.

        Returns:
            Unit embeddings [R, dim]; and how much larger "person" is than "background" [R], whose
            sigmoid is the softmax over the two.
        """
        pooled = self.pool(head_map)
        embedding = self.projectors(trunk_map.amax(dim=(2, 3)), pooled)
        background, person = self.classifier(pooled).unbind(dim=1)
        return functional.normalize(embedding), person - background

    def pool(self, head_map: Tensor) -> Tensor:
        """What the box regression and the classifier see: [R, head_channels]."""
        return head_map.amax(dim=(2, 3))

    def detection_loss(self, logits: Tensor, sampled: Sequence[SampledRegions]) -> Tensor:
        """Mean cross-entropy of the sampled regions."""
        return person_loss(logits, sampled)

    def scores(self, logits: Tensor) -> Tensor:
        """Detection scores [R] in [0, 1] of one image's regions."""
        return logits.sigmoid()
