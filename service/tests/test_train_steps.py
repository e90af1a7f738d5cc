"""When a run is ended because its loss has exploded, and what a step computes in."""

import copy

import pytest

torch = pytest.importorskip("torch")

from models.errors import PersonSearchError  # noqa: E402
from models.nn.network import build_network  # noqa: E402
from service.train.data import Batch  # noqa: E402
from service.train.processes import Place  # noqa: E402
from service.train.steps import SCALES, LossExplodedError, LossWatch, Steps  # noqa: E402

pytestmark = pytest.mark.torch


def watch_of(losses):
    watch = LossWatch()
    for loss in losses:
        assert watch.problem(loss) is None
    return watch


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_a_problem(loss):
    assert str(loss) in LossWatch().problem(loss)


def test_a_loss_far_beyond_the_beginning_is_a_problem():
    watch = watch_of([5.0, 12.0, *[3.0] * 30])

    assert watch.problem(1199.0) is None
    assert "over 100 times what it was at the beginning (12)" in watch.problem(1201.0)


def test_a_loss_that_rises_soon_and_steadily_is_no_problem():
    watch = watch_of([2.5, 20.0, 60.0, 70.0])

    assert watch.problem(400.0) is None


def test_the_beginning_of_a_trained_network_counts_as_one():
    watch = watch_of([0.01] * 20)

    assert watch.problem(99.0) is None
    assert watch.problem(101.0)


def test_the_beginning_is_the_first_steps_alone():
    watch = watch_of([4.0] * 20 + [300.0])

    assert watch.problem(401.0)


def steps(**changes):
    torch.manual_seed(0)
    network = build_network(
        "nae", "efficientnet_lite0", num_ids=3, queue_size=4, embedding_dim=16,
        min_size=64, max_size=96, regions_per_image=4,
    )  # fmt: skip
    recipe = {
        "loss_weights": {}, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0,
        "clip_norm": 10,
    }  # fmt: skip
    return Steps(network, Place(0, 1, torch.device("cpu")), **recipe | changes)


def batch():
    target = {
        "boxes": torch.tensor([[8.0, 8, 30, 60]]),
        "person_ids": torch.tensor([1]),
        "ignored": torch.zeros(0, 4),
        "seed": 7,
    }
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    return Batch(["a.jpg", "b.jpg"], images, [(64, 96)] * 2, [target, target])


def test_a_gradient_that_is_no_number_ends_the_run_before_the_weights_change():
    made = steps()
    weight = made.network.rpn.head.cls_logits.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("nan"))

    with pytest.raises(LossExplodedError, match=r"step 5: the gradient's norm is nan.*a\.jpg, b"):
        made.make(batch(), rate=0.01, number=5)

    assert torch.equal(weight, before)


def test_fp16_leaves_out_steps_that_overflow_until_no_scale_is_left():
    made = steps()
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    weight = made.network.rpn.head.cls_logits.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))

    made.make(batch(), rate=0.01, number=1)

    assert torch.equal(weight, before)
    assert made.scaler.get_scale() == 1.0
    with pytest.raises(LossExplodedError, match=r"step 2: fp16 gradients overflow at any scale"):
        made.make(batch(), rate=0.01, number=2)


def test_a_lower_precision_is_for_backbone_and_box_head_in_training_alone():
    made = steps(precision="bf16")
    seen = {}
    heads = made.network.roi_heads
    for name, part in (
        ("backbone", made.network.backbone[0][1]), ("box head", heads.box_head[0].layers[0][0]),
        ("head", heads.embedding_head.projectors["feat_res5"][0]),
        ("regressor", heads.box_regressor[0]),
    ):  # fmt: skip
        part.register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.dtype}))

    values, _ = made.make(batch(), rate=0.01, number=1)

    assert seen == {
        "backbone": torch.bfloat16, "box head": torch.bfloat16,
        "head": torch.float32, "regressor": torch.float32,
    }  # fmt: skip
    plain, _ = steps().make(batch(), rate=0.01, number=1)
    assert values["loss"] == pytest.approx(plain["loss"], rel=0.05)
    made.network.eval()
    made.network.backbone(batch().images)
    assert seen["backbone"] == torch.float32


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(PersonSearchError, match="fp16 needs a GPU"):
        steps(precision="fp16")


def test_weights_of_losses_are_those_of_the_recipe():
    values, _ = steps(loss_weights={"loss_reid": 0.0, "loss_objectness": 3.0}).make(
        batch(), rate=0.01, number=1
    )

    expected = (
        3 * values["loss_objectness"] + values["loss_rpn_box_reg"] + values["loss_detection"]
        + values["loss_box_reg"]
    )  # fmt: skip
    assert values["loss"] == pytest.approx(expected)


def changes(made, rate):
    """How far one step moves each parameter at most."""
    before = {name: p.detach().clone() for name, p in made.network.named_parameters()}
    made.make(batch(), rate=rate, number=1)
    return {
        name: float((p.detach() - before[name]).abs().max())
        for name, p in made.network.named_parameters()
    }


def test_adamw_moves_every_number_by_about_the_rate():
    moved = changes(steps(optimizer="adamw"), 1e-4)

    weights = {n: far for n, far in moved.items() if n.startswith(("backbone.", "rpn."))}
    assert len(weights) > 50
    # Of parts that a batch teaches nothing the gradient may be 0.
    assert max(weights.values()) == pytest.approx(1e-4, rel=0.05)
    assert sorted(weights.values())[len(weights) // 2] == pytest.approx(1e-4, rel=0.05)


def test_adamw_moves_what_scales_boxes_and_logits_ten_times_as_far():
    made = steps(optimizer="adamw", weight_decay=0.5)

    moved = changes(made, 1e-4)

    scales = {name: far for name, far in moved.items() if name.startswith(SCALES)}
    assert {name.rpartition(".")[0] for name in scales} == {
        "roi_heads.box_regressor.1", "roi_heads.embedding_head.rescaler"
    }  # fmt: skip
    assert max(scales.values()) == pytest.approx(10 * 1e-4, rel=0.05)


def test_adamw_lets_weights_decay_and_biases_not():
    made = steps(optimizer="adamw", weight_decay=0.5)
    head = made.network.rpn.head.cls_logits
    torch.nn.init.ones_(head.bias)
    for parameter in head.parameters():
        parameter.register_hook(torch.zeros_like)
    before = head.weight.detach().clone()

    made.make(batch(), rate=0.01, number=1)

    assert torch.allclose(head.weight, before * (1 - 0.5 * 0.01))
    assert torch.equal(head.bias, torch.ones_like(head.bias))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_saved_state_goes_on_as_if_it_had_not_been_saved(optimizer):
    recipe = {"optimizer": optimizer, "weight_decay": 0.01}
    whole, resumed = steps(**recipe), steps(**recipe)
    whole.make(batch(), rate=0.01, number=1)
    state = copy.deepcopy(whole.state_dict())
    whole.make(batch(), rate=0.005, number=2)

    resumed.load_state_dict(state)
    resumed.make(batch(), rate=0.005, number=2)

    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_a_full_gpu_is_said_with_what_filled_it(monkeypatch):
    made = steps()

    def full(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(made.network.backbone), "forward", full)

    with pytest.raises(PersonSearchError, match=r"step 3: .* 2 scenes of 64 × 96 pixels"):
        made.make(batch(), rate=0.01, number=3)
