"""One step of training: losses, gradients, and the change of the weights."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.errors import PersonSearchError
from models.nn.joint import joint_mean, with_joint_batch_norm
from models.nn.network import PersonSearchNet
from service.train.data import Batch
from service.train.live_teacher import LiveTeacher
from service.train.processes import Place, padded_alike
from service.train.views import Views

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Loss scaling starts at 65,536; gradients that overflow even when they are scaled down are lost.
LEAST_SCALE = 1.0
# A sound run's loss stays far below a hundred times its beginning. The largest part that can grow
# is the identity loss, which begins at ln N for N identities and queue entries and never exceeds
# 60 + ln N (similarities in [-1, 1] are multiplied by 30): at most 40 times, for N = 5.
EXPLODED = 100.0
FIRST_STEPS = 10
# AdamW changes every number by about the rate per step. These start far from where they belong,
# and decide how large a box's correction or a logit can be.
SCALES = ("roi_heads.box_regressor.1.", "roi_heads.embedding_head.rescaler.")
SCALE_FACTOR = 10.0


class LossExplodedError(PersonSearchError):
    """The loss or its gradient is no longer a number, or has left all bounds."""

    code = "loss_exploded"


class LossWatch:
    """Knows how large the loss was at the run's beginning.

    That is the largest of its first steps, and at least 1: a run from trained weights may begin
    near 0.
    """

    def __init__(self) -> None:
        self.beginning = 1.0
        self.steps = 0

    def problem(self, loss: float) -> str | None:
        """What is wrong with the loss of the next step, if anything."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if loss > EXPLODED * self.beginning:
            return (
                f"the loss is {loss:.4g}, over {EXPLODED:.0f} times what it was at the beginning "
                f"({self.beginning:.4g})"
            )
        if self.steps < FIRST_STEPS:
            self.beginning = max(self.beginning, loss)
        self.steps += 1
        return None


class Steps:
    """The network in training, and all that its next step depends on but the batch."""

    def __init__(
        self,
        network: PersonSearchNet,
        place: Place,
        *,
        loss_weights: dict[str, float],
        optimizer: str,
        lr: float,
        momentum: float,
        weight_decay: float,
        clip_norm: float,
        precision: str = "fp32",
        layout: torch.memory_format = torch.contiguous_format,
        views: Views | None = None,
        teacher: LiveTeacher | None = None,
    ) -> None:
        """Prepare a network for training.

        Args:
            network: it is changed: moved, and where several processes train, given joint batch
                norm.
            loss_weights: by the names of the losses; 1 where there is none.
            precision: a name in PRECISIONS.
            layout: of pictures and feature maps in memory.

        Raises:
            PersonSearchError: this device does not train in this precision.
        """
        lower = PRECISIONS[precision]
        if lower is torch.float16 and place.device.type == "cpu":
            raise PersonSearchError(
                "--precision fp16 needs a GPU: on a CPU expected fp32 or bf16, got fp16"
            )
        self.network = network.to(place.device, memory_format=layout).train()
        if place.count > 1:
            with_joint_batch_norm(network)
        if lower is not None:
            _compute_in(lower, network, "features", place.device)
            _compute_in(lower, network.roi_heads.box_head, "forward", place.device)
        self.optimizer = _optimizer(optimizer, network, lr, momentum, weight_decay)
        self.watch = LossWatch()
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=lower is torch.float16)
        self._place = place
        self._loss_weights = loss_weights
        self._clip_norm = clip_norm
        self._layout = layout
        self._views = views
        self._teacher = teacher
        if teacher is not None:
            teacher.place(place.device, lower, layout)
        rule = network.card.input
        self._mean, self._std = (
            torch.tensor(row, device=place.device)[:, None, None] for row in (rule.mean, rule.std)
        )
        self._forward: nn.Module = network
        if place.count > 1:
            with warnings.catch_warnings():
                # Of a new name for the same thing, which older versions do not know.
                warnings.simplefilter("ignore", FutureWarning)
                self._forward = DistributedDataParallel(
                    network,
                    device_ids=[place.device.index] if place.device.type == "cuda" else None,
                    broadcast_buffers=False,  # joint batch norm makes them alike everywhere
                )

    def make(self, batch: Batch, *, rate: float, number: int) -> tuple[dict[str, float], float]:
        """Make one step.

        Args:
            rate: learning rate.
            number: of the step, for messages.

        Returns:
            The losses of the joint batch, their weighted sum "loss" first; and the gradient's norm
            before clipping.

        Raises:
            LossExplodedError: saying which step and which scenes.
            PersonSearchError: the GPU's memory is full.
        """
        try:
            return self._make(batch, rate, number)
        except torch.OutOfMemoryError as error:
            count, _, height, width = batch.images.shape
            raise PersonSearchError(
                f"step {number}: the GPU's memory is full with {count} scenes of {height} × "
                f"{width} pixels in this process: try a smaller --batch-size, --max-size or "
                "--regions-per-image, or --precision bf16"
            ) from error

    def _make(self, batch: Batch, rate: float, number: int) -> tuple[dict[str, float], float]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        images, targets = self._as_seen(batch)
        losses = self._forward(images, batch.sizes, targets)
        weighted = [self._loss_weights.get(name, 1.0) * loss for name, loss in losses.items()]
        loss = torch.stack(weighted).sum()
        joint = joint_mean(torch.stack([loss, *losses.values()]).detach()).tolist()
        values = dict(zip(("loss", *losses), joint, strict=True))
        problem = self.watch.problem(values["loss"])
        if problem:
            raise _exploded(problem, number, values, batch.names)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), self._clip_norm))
        if self.scaler.is_enabled():
            # Gradients that are not finite are usual here: the step is left out, the scale lowered.
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.scaler.get_scale() < LEAST_SCALE:
                problem = f"fp16 gradients overflow at any scale ({self.scaler.get_scale():.3g})"
                raise _exploded(problem, number, values, batch.names)
        elif not math.isfinite(norm):
            raise _exploded(f"the gradient's norm is {norm}", number, values, batch.names)
        else:
            self.optimizer.step()
        self.network.roi_heads.reid_loss.update()
        return values, norm

    def _as_seen(self, batch: Batch) -> tuple[Tensor, list[dict[str, Any]]]:
        """Pictures and targets as the network takes them, on the device that trains."""
        device = self._place.device
        targets = [
            {k: v.to(device) if isinstance(v, Tensor) else v for k, v in t.items()}
            for t in batch.targets
        ]
        if self._views is None:
            images = padded_alike(batch.images).to(
                device, memory_format=self._layout, non_blocking=True
            )
            if self._teacher is not None:
                self._ask(images * self._std + self._mean, targets)
            return images, targets
        (target,) = batch.targets
        shown = self._views.show(
            batch.images.to(device, non_blocking=True),
            target["aspects"],
            target["person_ids"].to(device),
            size=batch.sizes[0],
            seed=target["seed"],
        )
        counts = [len(boxes) for boxes in shown.boxes]
        laid_out = {"boxes": shown.boxes, "person_ids": shown.person_ids.split(counts)}
        if "answers" in target:
            laid_out["answers"] = target["answers"].to(device).split(counts)
        targets = [
            dict(zip(laid_out, parts, strict=True))
            for parts in zip(*laid_out.values(), strict=True)
        ]
        if self._teacher is not None:
            self._ask(shown.pictures, targets)
        images = ((shown.pictures - self._mean) / self._std).to(memory_format=self._layout)
        return images, targets

    def _ask(self, pictures: Tensor, targets: list[dict[str, Any]]) -> None:
        """Let the targets have the teacher's answers about what is shown in pictures in [0, 1]."""
        assert self._teacher is not None
        boxes = [target["boxes"] for target in targets]
        answers = self._teacher.answers(
            pictures, boxes, torch.cat([target["person_ids"] for target in targets])
        )
        for target, part in zip(targets, answers.split([len(b) for b in boxes]), strict=True):
            target["answers"] = part

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on but the batch."""
        teacher = {} if self._teacher is None else {"teacher": self._teacher.state_dict()}
        return {
            **teacher,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "watch": vars(self.watch).copy(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the steps that made a state would have."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        vars(self.watch).update(state["watch"])
        if self._teacher is not None:
            self._teacher.load_state_dict(state["teacher"])
        torch.set_rng_state(state["rng"])
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])


def _compute_in(precision: torch.dtype, part: nn.Module, method: str, device: torch.device) -> None:
    """Let a method of a part compute in a lower precision while it trains."""
    plain = getattr(part, method)

    def computed(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=precision, enabled=part.training):
            made: Tensor = plain(pixels)
            return made

    setattr(part, method, computed)


def _optimizer(
    name: str, network: nn.Module, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD, or AdamW (then without `momentum`); biases do not decay."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    apart = SCALES if name == "adamw" else ()
    others = [(n, p) for n, p in trained if not n.startswith(apart)]
    groups = [
        {"params": [p for n, p in others if "bias" not in n], "weight_decay": weight_decay},
        {"params": [p for n, p in others if "bias" in n], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    scales = [p for n, p in trained if n.startswith(apart)]
    groups.append({"params": scales, "weight_decay": 0.0, "factor": SCALE_FACTOR})
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def _exploded(
    problem: str, number: int, values: dict[str, float], names: list[str]
) -> LossExplodedError:
    told = ", ".join(f"{k.removeprefix('loss_')} {v:.4g}" for k, v in values.items())
    return LossExplodedError(
        f"step {number}: {problem} ({told}); scenes {', '.join(names)}; if these are sound, try a "
        "lower --lr or a longer --warmup-steps"
    )
