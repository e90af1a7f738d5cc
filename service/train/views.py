"""How crops are shown: as what a detector would have cut out of scenes, many to a picture.

The trunk sees whole scenes, in which there is more around a person: so the crops of a batch are
laid side by side into a few pictures, and each person's box is one that a detector might have
found: shifted, too large, cut or half hidden, as a camera of another place and light sees them.
All crops of a batch are changed at once, on the device that trains.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.datasets.scene import UNLABELED

COLUMNS, ROWS = 8, 2
"""Of the pictures that crops are laid side by side in."""
FILLED_BY_OTHERS, HIDDEN, CUT = 0.6, 0.2, 0.15
BLURRED, NOISY, COMPRESSED, FAR = 0.25, 0.35, 0.35, 0.25
FAR_SHARES, BLURS = (0.5, 0.33, 0.22), (0.6, 1.0, 1.6)
"""Shares of the pixels that a camera far away has, and standard deviations in pixels."""
REDRESSED, RECOLOURED = 0.25, 0.35
"""Shares of crops that get another's lower half, and other colours."""
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Shown:
    """A batch of crops as the network sees it.

    Attributes:
        pictures: [P, 3, H, W], RGB in [0, 1].
        boxes: of each picture [K, 4].
        person_ids: [N]; UNLABELED where a crop does not show its person any more.
    """

    pictures: Tensor
    boxes: list[Tensor]
    person_ids: Tensor


class Views:
    """Draws how the crops of a batch are shown, from a seed alone."""

    def __init__(self, *, augment: bool, redress: bool) -> None:
        """Say how.

        Args:
            augment: in other light, blurred, noisy or compressed, partly hidden, in boxes as a
                detector gives them; otherwise each crop fills its place.
            redress: also in other colours and with others' legs: only a teacher who is asked
                about the very view knows who that is.
        """
        self._augment = augment
        self._redress = redress

    @torch.no_grad()
    def show(
        self,
        crops: Tensor,
        aspects: Tensor,
        person_ids: Tensor,
        *,
        size: tuple[int, int],
        seed: int,
    ) -> Shown:
        """Lay out a batch.

        Args:
            crops: [N, 3, h, w] uint8, RGB, all of one size.
            aspects: width by height of each before [N], on the CPU.
            person_ids: [N].
            size: height and width of a crop's place, in pixels.
        """
        draw = _Draws(seed, len(crops), crops.device)
        pixels = crops.float() / 255
        pixels = _where(draw.chance(0.5), pixels.flip(3), pixels)
        height, width = size
        if not self._augment:
            shown = functional.interpolate(
                pixels, size, mode="bilinear", antialias=True, align_corners=False
            )
            boxes = shown.new_tensor([0, 0, width, height]).expand(len(shown), 4)
            return _laid_out(shown, boxes, person_ids)
        if self._redress:
            pixels, changed = _redressed(pixels, draw)
            person_ids = torch.where(changed, UNLABELED, person_ids)
        shown, person = _placed(pixels, aspects.to(crops.device), size, draw)
        shown = _degraded(shown, draw).clamp(0, 1)
        return _laid_out(shown, _found(person, size, draw), person_ids)


class _Draws:
    """Random numbers for a batch: drawn on the CPU, alike on all devices, but for grain."""

    def __init__(self, seed: int, count: int, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._grain = torch.Generator(device).manual_seed(seed)
        self.count, self.device = count, device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[N, …] in [low, high)."""
        drawn = torch.rand(self.count, *shape, generator=self._generator)
        return (low + (high - low) * drawn).to(self.device)

    def normal(self, deviation: float, *shape: int) -> Tensor:
        drawn = torch.randn(self.count, *shape, generator=self._generator)
        return (deviation * drawn).to(self.device)

    def chance(self, share: float) -> Tensor:
        """[N] bool."""
        return (torch.rand(self.count, generator=self._generator) < share).to(self.device)

    def some(self, share: float) -> Tensor:
        """Places of so many of the batch, in order."""
        drawn = torch.rand(self.count, generator=self._generator) < share
        return drawn.nonzero().flatten().to(self.device)

    def others(self) -> int:
        """How far to turn the batch, so that everybody meets somebody else."""
        turned = torch.randint(1, max(2, self.count), (1,), generator=self._generator)
        return int(turned)

    def grain(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._grain, device=self.device)


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (no.ndim - 1)), yes, no)


def _redressed(pixels: Tensor, draw: _Draws) -> tuple[Tensor, Tensor]:
    """Some with others' lower halves, some in other colours; and who is not themselves any more."""
    rows = torch.linspace(0, 1, pixels.shape[2], device=pixels.device)
    waist = draw.uniform(0.38, 0.6, 1)
    lower = torch.sigmoid((rows[None] - waist) * 60)[:, None, :, None]
    mixed = draw.chance(REDRESSED)
    pixels = _where(mixed, torch.lerp(pixels, pixels.roll(draw.others(), 0), lower), pixels)
    turned = [_turned_colours(pixels, draw) for _ in range(2)]
    apart = draw.chance(0.7)[:, None, None, None].float()
    recoloured = torch.lerp(turned[0], turned[1], lower * apart)
    changed = draw.chance(RECOLOURED)
    return _where(changed, recoloured.clamp(0, 1), pixels), mixed | changed


def _turned_colours(pixels: Tensor, draw: _Draws) -> Tensor:
    """Hues turned about the grey axis, stronger or weaker, lighter or darker."""
    angle = draw.uniform(-math.pi, math.pi)
    share = draw.uniform(0.3, 1.8)
    axis = 1 / math.sqrt(3)
    grey = torch.full((3, 3), 1 / 3, device=pixels.device)
    cross = axis * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=pixels.device)
    whole = torch.eye(3, device=pixels.device) - grey
    around = angle.cos()[:, None, None] * whole + angle.sin()[:, None, None] * cross
    turn = grey + share[:, None, None] * around
    made = torch.einsum("nij,njhw->nihw", turn, pixels)
    return made * draw.uniform(0.6, 1.5, 1, 1, 1) + draw.uniform(-0.15, 0.15, 1, 1, 1)


def _placed(
    pixels: Tensor, aspects: Tensor, size: tuple[int, int], draw: _Draws
) -> tuple[Tensor, Tensor]:
    """Crops in their places [N, 3, height, width] among other things, and where they are [N, 4]."""
    height, width = size
    if height < pixels.shape[2]:  # what is made smaller is averaged first
        sides = height, min(width, pixels.shape[3])
        pixels = functional.interpolate(
            pixels, sides, mode="bilinear", antialias=True, align_corners=False
        )
    tall = height * draw.uniform(0.72, 1.0)
    wide = (tall * aspects * draw.uniform(-0.15, 0.15).exp()).clamp(min=8, max=width)
    top, left = draw.uniform(0, 1) * (height - tall), draw.uniform(0, 1) * (width - wide)
    person = torch.stack([left, top, left + wide, top + tall], dim=1)
    across, down, inside = _within(person, size)
    shown = _sampled(pixels, across, down)
    other = pixels.roll(draw.others(), 0)
    share = draw.uniform(0.3, 1.0, 2, 1)
    start = draw.uniform(0, 1, 2, 1) * (1 - share)
    columns = torch.linspace(0, 1, width, device=pixels.device)[None]
    rows = torch.linspace(0, 1, height, device=pixels.device)[None]
    around = _sampled(other, start[:, 0] + share[:, 0] * columns, start[:, 1] + share[:, 1] * rows)
    row = (draw.uniform(0, 1) * (pixels.shape[2] - 1)).long()
    rim = pixels[torch.arange(len(pixels), device=pixels.device), :, row, 0][:, :, None, None]
    around = _where(draw.chance(FILLED_BY_OTHERS), around, rim.expand_as(around))
    shown = torch.where(inside[:, None], shown, around)
    block = _block(person, draw)
    _, _, covered = _within(block, size)
    covered &= draw.chance(HIDDEN)[:, None, None]
    before = _where(draw.chance(0.5), around, draw.uniform(0, 1, 3, 1, 1).expand_as(around))
    return torch.where(covered[:, None], before, shown), person


def _within(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Where pixels lie in boxes: columns [N, W] and rows [N, H], 0 to 1 within, and [N, H, W]."""
    columns = torch.arange(size[1], device=boxes.device) + 0.5
    rows = torch.arange(size[0], device=boxes.device) + 0.5
    across = (columns[None] - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1])
    down = (rows[None] - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2])
    inside = ((across >= 0) & (across <= 1))[:, None] & ((down >= 0) & (down <= 1))[:, :, None]
    return across, down, inside


def _sampled(pixels: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Pictures at columns [N, W] and rows [N, H], each 0 to 1 over the picture."""
    grid = torch.stack(
        [
            (2 * across - 1)[:, None, :].expand(-1, down.shape[1], -1),
            (2 * down - 1)[:, :, None].expand(-1, -1, across.shape[1]),
        ],
        dim=3,
    )
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _block(person: Tensor, draw: _Draws) -> Tensor:
    """What hides part of a person: low and wide, or narrow at a side [N, 4]."""
    low = draw.chance(0.5)
    wide = torch.where(low, draw.uniform(0.3, 1.0), draw.uniform(0.15, 0.5))
    tall = torch.where(low, draw.uniform(0.15, 0.5), draw.uniform(0.4, 1.0))
    left = torch.where(low, draw.uniform(0, 1), draw.uniform(0, 2).floor()) * (1 - wide)
    top = torch.where(draw.chance(0.6), 1.0, draw.uniform(0, 1)) * (1 - tall)
    sides = person[:, 2:] - person[:, :2]
    share = torch.stack([left, top, left + wide, top + tall], dim=1)
    return person[:, :2].repeat(1, 2) + share * sides.repeat(1, 2)


def _found(person: Tensor, size: tuple[int, int], draw: _Draws) -> Tensor:
    """Boxes as a detector gives them: a little off, some cut [N, 4]."""
    sides = (person[:, 2:] - person[:, :2]).repeat(1, 2)
    boxes = person + draw.normal(0.05, 4).clamp(-0.12, 0.12) * sides
    side = torch.bucketize(draw.uniform(0, 1), torch.tensor([0.15, 0.3, 0.45]).to(person))
    inwards = torch.tensor([1.0, 1.0, -1.0, -1.0]).to(person)
    share = functional.one_hot(side, 4) * inwards * draw.uniform(0.08, 0.35, 1)
    boxes = _where(draw.chance(CUT), boxes + share * sides, boxes)
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def _degraded(pixels: Tensor, draw: _Draws) -> Tensor:
    """As another camera sees them: light, colours, distance, blur, grain and compression."""
    gains = draw.uniform(0.75, 1.25, 1, 1, 1) * draw.uniform(0.9, 1.1, 3, 1, 1)
    pixels = (pixels * gains).clamp(1e-4, 1) ** draw.normal(0.22, 1, 1, 1).exp()
    pixels = (pixels - 0.5) * draw.uniform(0.75, 1.2, 1, 1, 1) + 0.5
    grey = torch.einsum("c,nchw->nhw", pixels.new_tensor(GREY), pixels)[:, None]
    pixels = torch.lerp(grey.expand_as(pixels), pixels, draw.uniform(0.55, 1.3, 1, 1, 1))
    for deviation in BLURS:
        some = draw.some(BLURRED / len(BLURS))
        pixels[some] = _blurred(pixels[some], deviation)
    for share in FAR_SHARES:
        some = draw.some(FAR / len(FAR_SHARES))
        pixels[some] = _from_afar(pixels[some], share)
    strength = _where(draw.chance(NOISY), draw.uniform(0.008, 0.04), draw.uniform(0, 0.006))
    pixels = (pixels + strength[:, None, None, None] * draw.grain(pixels)).clamp(0, 1)
    quality = draw.uniform(20, 80)
    some = draw.some(COMPRESSED)
    pixels[some] = compressed(pixels[some], quality[some])
    return pixels


def _blurred(pixels: Tensor, deviation: float) -> Tensor:
    if not len(pixels):
        return pixels
    reach = math.ceil(2.5 * deviation)
    along = torch.arange(-reach, reach + 1, device=pixels.device)
    kernel = torch.exp(-0.5 * (along / deviation) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(pixels, [reach] * 4, mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, kernel, groups=3), kernel.mT.contiguous(), groups=3
    )


def _from_afar(pixels: Tensor, share: float) -> Tensor:
    if not len(pixels):
        return pixels
    height, width = pixels.shape[2:]
    small = functional.interpolate(
        pixels, (max(4, round(height * share)), max(4, round(width * share))),
        mode="bilinear", antialias=True, align_corners=False,
    )  # fmt: skip
    return functional.interpolate(small, (height, width), mode="bicubic", align_corners=False)


def compressed(pixels: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of pictures: cosine transforms of 8 × 8 pixels, rounded; colours at half.

    Args:
        pixels: [N, 3, H, W], RGB in [0, 1]; H and W are multiples of 16.
        quality: [N], 1 to 100.

    Reference:
        ITU-T T.81 for the transform and its Annex K for the tables; the Independent JPEG Group's
        scale of quality.
    """
    if not len(pixels):
        return pixels
    to_ycc = pixels.new_tensor(YCC)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, 255 * pixels)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None]
    light = _rounded(ycc[:, :1] - 128, scale, pixels.new_tensor(LIGHT_STEPS)) + 128
    colours = _rounded(functional.avg_pool2d(ycc[:, 1:], 2), scale, pixels.new_tensor(COLOUR_STEPS))
    colours = functional.interpolate(colours, scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([light, colours], dim=1)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), ycc).div(255).clamp(0, 1)


def _rounded(planes: Tensor, scale: Tensor, steps: Tensor) -> Tensor:
    """Planes [N, C, H, W] whose transforms are multiples of steps [8, 8], times scale [N, …]."""
    count, channels, height, width = planes.shape
    turn = _cosines().to(planes)
    blocks = planes.reshape(count, channels * height // 8, 8, width // 8, 8).transpose(2, 3)
    blocks = blocks.reshape(count, -1, 8, 8)
    steps = (steps * scale).clamp(min=1).round()
    rounded = ((turn @ blocks @ turn.mT) / steps).round() * steps
    blocks = (turn.mT @ rounded @ turn).reshape(count, channels * height // 8, width // 8, 8, 8)
    return blocks.transpose(2, 3).reshape(planes.shape)


def _cosines() -> Tensor:
    """The discrete cosine transform of eight values [8, 8], orthonormal."""
    place = torch.arange(8)
    turn = torch.cos(math.pi / 8 * (place[None] + 0.5) * place[:, None]) / 2
    turn[0] /= math.sqrt(2)
    return turn


def _laid_out(shown: Tensor, boxes: Tensor, person_ids: Tensor) -> Shown:
    """Places [N, 3, H, W] side by side in pictures; empty ones are black."""
    count, _, height, width = shown.shape
    each = COLUMNS * ROWS
    pictures = -(-count // each)
    filled = functional.pad(shown, (0, 0, 0, 0, 0, 0, 0, pictures * each - count))
    filled = filled.reshape(pictures, ROWS, COLUMNS, 3, height, width).permute(0, 3, 1, 4, 2, 5)
    number = torch.arange(count, device=shown.device) % each
    left, top = number % COLUMNS * width, number // COLUMNS * height
    moved = boxes + torch.stack([left, top, left, top], dim=1)
    return Shown(
        filled.reshape(pictures, 3, ROWS * height, COLUMNS * width),
        list(moved.split(each)),
        person_ids,
    )


YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
LIGHT_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
COLOUR_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
