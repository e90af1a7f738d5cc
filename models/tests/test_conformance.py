"""Ours beside the numbers that the published code gave; what they are: conformance/README.md."""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList

from models.boxes import box_iou, nms
from models.detections import Detections
from models.detector import OnnxDetector
from models.nn.export import export
from models.nn.oim import OimLoss, SmrOimLoss
from models.nn.reference import load_reference
from models.nn.sampling import SampledRegions
from models.preprocess import InputRule, PreparedImage, prepare, resized_size
from models.proposals import (
    BOX_WEIGHTS,
    RPN_WEIGHTS,
    ProposalRule,
    anchors_of,
    cell_anchors,
    decode_boxes,
    propose,
)
from models.roi_align import roi_align
from models.tests.conftest import save_published
from models.tests.formula import CONFORMANCE, formula_array, published_shapes
from models.tests.published import (
    ALL_SCENES,
    EXACT,
    NOBODY_NAMED,
    ONNX_PIXELS,
    PIXELS,
    RELATIVE,
    SCENES,
    SMALL,
    assert_close,
    assert_detections,
    assert_rows_close,
    flips,
    input_rule,
    matched,
    numbers,
    scene,
)
from service.train.config import TrainConfig
from service.train.data import TrainingScene, collate
from service.train.steps import _optimizer

# Whole scenes go through a ResNet-50: minutes where other work is on the machine.
pytestmark = [pytest.mark.torch, pytest.mark.timeout(1200)]


@dataclass
class Run:
    """What the torch network made of one scene on its way to the detections."""

    prepared: PreparedImage
    detections: Detections
    feature_map: torch.Tensor
    objectness: torch.Tensor
    rpn_deltas: torch.Tensor
    proposals: np.ndarray
    norms: np.ndarray
    deltas: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray


@pytest.fixture(scope="module")
def network(published_checkpoint):
    return load_reference(published_checkpoint, min_size=SMALL[0], max_size=SMALL[1])


@pytest.fixture(scope="module")
def run(network):
    """Runs a scene through the torch network, once."""

    @functools.cache
    def of(name: str) -> Run:
        card = network.card
        rule = input_rule(name)
        heads = network.roi_heads
        made = {}
        watched = {
            "trunk": network.backbone,
            "rpn_head": network.rpn.head,
            "rpn": network.rpn,
            "regressor": heads.box_regressor,
            "head": heads.embedding_head,
            "rescaler": heads.embedding_head.rescaler,
        }
        hooks = [
            module.register_forward_hook(
                lambda _, given, result, key=key: made.update({key: (given, result)})
            )
            for key, module in watched.items()
        ]
        network.card = dataclasses.replace(card, input=rule)
        try:
            detections = network.detect(scene(name))
        finally:
            network.card = card
            for hook in hooks:
                hook.remove()
        embeddings, logits = made["head"][1]
        return Run(
            prepared=prepare(scene(name), rule),
            detections=detections,
            feature_map=made["trunk"][1],
            objectness=made["rpn_head"][1][0][0],
            rpn_deltas=made["rpn_head"][1][1][0],
            proposals=made["rpn"][1][0][0].numpy(),
            norms=made["rescaler"][0][0][:, 0].numpy(),
            deltas=made["regressor"][1].numpy(),
            logits=logits.numpy(),
            embeddings=embeddings.numpy(),
        )

    return of


@pytest.fixture(scope="module")
def detector(network, tmp_path_factory):
    model = export(network, tmp_path_factory.mktemp("conformance") / "model")
    yield OnnxDetector(model)
    for graph in model.glob("*.onnx"):
        graph.unlink()


def test_the_formula_makes_the_weights_that_the_published_code_ran_with():
    shapes = published_shapes()
    expected = json.loads((CONFORMANCE / "first_values.json").read_text())
    for name, values in expected.items():
        if "rescaler.running" in name:
            continue
        made = formula_array(name, shapes[name]).ravel()[: len(values)]
        np.testing.assert_allclose(made, values, rtol=1e-6, err_msg=name)


def test_resized_and_padded_sizes_are_exactly_the_published_ones():
    shapes = json.loads((CONFORMANCE / "resize_shapes.json").read_text())
    assert len(shapes) == 64

    for given, expected in shapes.items():
        height, width = resized_size(*map(int, given.split("x")), InputRule())
        assert [height, width] == expected["resized"], given
        assert [-(-height // 32) * 32, -(-width // 32) * 32] == expected["padded"], given


@pytest.mark.parametrize("name", ALL_SCENES)
def test_pixels_are_normalized_then_resized_without_antialiasing(name):
    rule = input_rule(name)
    ours = prepare(scene(name), rule)
    pixels = torch.from_numpy(scene(name).copy()).permute(2, 0, 1).contiguous() / 255
    mean, std = torch.tensor(rule.mean)[:, None, None], torch.tensor(rule.std)[:, None, None]
    theirs = functional.interpolate(
        ((pixels - mean) / std)[None], size=ours.size, mode="bilinear", align_corners=False
    )
    common = numbers(f"common_{name}")
    height, width = ours.size

    assert [height, width] == common["resized_hw"].tolist()
    assert list(ours.pixels.shape[1:]) == common["padded_hw"].tolist()
    # torch fuses multiplication and addition with one thread and does not with several.
    np.testing.assert_allclose(ours.pixels[:, :height, :width], theirs[0], rtol=0, atol=1e-4)
    assert not ours.pixels[:, height:].any()
    assert not ours.pixels[:, :, width:].any()


@pytest.mark.parametrize("name", ALL_SCENES)
def test_the_feature_map_is_the_published_one(run, name):
    common = numbers(f"common_{name}")
    y, x = common["feat_slice_yx"]

    feature_map = run(name).feature_map.numpy()

    assert feature_map.shape == tuple(common["feat_shape"])
    assert_close(feature_map[0].mean(axis=(1, 2)), common["feat_channel_mean"])
    assert_close([feature_map.mean(), feature_map.std()], common["feat_mean_std"])
    assert_close(feature_map[0, :32, y : y + 4, x : x + 4], common["feat_slice"])


@pytest.mark.parametrize("name", ALL_SCENES)
def test_proposals_are_the_published_ones(run, name):
    common = numbers(f"common_{name}")
    of = run(name)

    assert_close([of.objectness.mean(), of.objectness.std()], common["rpn_logit_mean_std"])
    matched(of.proposals, common["rpn_boxes"], pixels=PIXELS, flips=flips(name))


@pytest.mark.parametrize("name", ALL_SCENES)
def test_proposals_in_numpy_are_the_published_ones(run, name):
    common = numbers(f"common_{name}")
    of = run(name)
    objectness = of.objectness[0].permute(1, 2, 0).numpy()
    deltas = of.rpn_deltas[0].permute(1, 2, 0).reshape(*objectness.shape, 4).numpy()

    boxes, logits = propose(objectness, deltas, of.prepared.size, ProposalRule())

    ours, theirs = matched(boxes, common["rpn_boxes"], pixels=PIXELS, flips=flips(name))
    assert_close(logits[ours], common["rpn_logits"][theirs])


@pytest.mark.parametrize("name", ALL_SCENES)
def test_each_proposal_is_described_as_published(run, name):
    expected = numbers(f"nae_{name}")
    boxes = numbers(f"common_{name}")["rpn_boxes"]
    of = run(name)

    ours, theirs = matched(of.proposals, boxes, pixels=PIXELS, flips=flips(name))
    first = theirs[theirs < 8]

    assert_close(of.norms[ours], expected["head_norm"][theirs])
    assert_close(of.logits[ours], expected["head_logit"][theirs])
    assert_close(1 / (1 + np.exp(-of.logits[ours])), expected["head_score"][theirs])
    deltas = expected["head_boxreg"][theirs, 4:]
    np.testing.assert_allclose(of.deltas[ours], deltas, rtol=0, atol=RELATIVE * deltas.max())
    assert_rows_close(of.embeddings[ours[theirs < 8]], expected["head_emb8"][first])


@pytest.mark.parametrize("name", ALL_SCENES)
def test_detections_are_the_published_ones(run, name):
    assert_detections(run(name).detections, numbers(f"nae_{name}"), PIXELS, flips(name))


@pytest.mark.parametrize("name", SCENES)
def test_query_embeddings_of_boxes_are_the_published_ones(network, name):
    expected = numbers(f"nae_{name}")

    embeddings = network.embed(scene(name), expected["query_boxes"])

    assert_rows_close(embeddings, expected["query_emb_roi"])


def test_a_batch_is_padded_and_answered_as_published(network):
    expected = numbers("nae_batch_ab")
    prepared = [prepare(scene(name), input_rule(name)) for name in "ab"]
    batch = collate(
        [TrainingScene("", torch.from_numpy(one.pixels), one.size, {}) for one in prepared]
    )
    images, sizes = batch.images, batch.sizes

    assert list(images.shape[2:]) == expected["padded_hw"].tolist()
    with torch.no_grad():
        feature_map = network.backbone(images)
        proposals, _ = network.rpn(ImageList(images, sizes), {"0": feature_map})
        for i, one in enumerate(prepared):
            boxes, scores, embeddings = (
                part.numpy()
                for part in network.roi_heads.detect(feature_map[i : i + 1], proposals[i], sizes[i])
            )
            their_boxes = expected[f"det_boxes_{i}"]
            ours, theirs = matched(one.to_original(boxes), their_boxes, pixels=PIXELS, flips=2)
            first = theirs < 8
            weighted = (embeddings * scores[:, None])[ours]
            assert_close(scores[ours], expected[f"det_scores_{i}"][theirs])
            assert_rows_close(weighted[first], expected[f"det_embeddings8_{i}"][theirs[first]])


@pytest.mark.parametrize("name", SCENES)
def test_the_model_file_detects_and_embeds_as_published(detector, name):
    expected = numbers(f"nae_{name}")

    found = detector.detect([scene(name)])[0]
    embeddings = detector.embed(scene(name), expected["query_boxes"])

    assert_detections(found, expected, ONNX_PIXELS, flips(name))
    assert_rows_close(embeddings, expected["query_emb_roi"])


@pytest.mark.parametrize("start", ["zero", "filled", "unnormalised"])
def test_five_steps_of_the_identity_loss_are_the_published_ones(start):
    expected = numbers(f"oim_{start}")
    loss = OimLoss(12, dim=16, queue_size=7)
    loss.lookup_table.copy_(torch.from_numpy(expected["lut0"]))
    loss.circular_queue.copy_(torch.from_numpy(expected["cq0"]))

    for step in range(5):
        x = torch.from_numpy(expected[f"x{step}"]).requires_grad_()
        label = torch.from_numpy(expected[f"label{step}"])
        person = label > 0
        ids = torch.where(label == NOBODY_NAMED, -1, label - 1)
        value = loss(x[person], ids[person])
        value.backward()
        loss.update()

        if np.isnan(expected[f"loss{step}"]):  # theirs is 0 / 0 where nobody is labelled
            assert value == 0
            assert not x.grad.any()
        else:
            assert_close(value.item(), expected[f"loss{step}"], EXACT)
            assert_close(x.grad.numpy(), expected[f"grad{step}"], EXACT)
        assert_close(loss.lookup_table.numpy(), expected[f"lut{step + 1}"], EXACT)
        assert_close(loss.circular_queue.numpy(), expected[f"cq{step + 1}"], EXACT)
        assert loss.queue_head == expected[f"header{step + 1}"]


@pytest.mark.parametrize("start", ["zero", "filled"])
def test_five_steps_of_the_variant_with_weighted_queue_are_the_published_ones(start):
    expected = numbers(f"oim_smr_{start}")
    loss = SmrOimLoss(12, dim=16, queue_size=7)
    loss.lookup_table.copy_(torch.from_numpy(expected["lut0"]))
    loss.circular_queue.copy_(torch.from_numpy(expected["cq0"]))
    loss.queue_weights.copy_(torch.from_numpy(expected["omega0"]))

    for step in range(5):
        x = torch.from_numpy(expected[f"x{step}"]).requires_grad_()
        label = torch.from_numpy(expected[f"label{step}"])
        person = label > 0
        ids = torch.where(label == NOBODY_NAMED, -1, label - 1)
        value = loss(x[person], ids[person])
        value.backward()
        loss.update()

        if not np.isnan(expected[f"loss{step}"]):  # theirs is 0 / 0 where nobody is labelled
            assert_close(value.item(), expected[f"loss{step}"], EXACT)
            assert_close(x.grad.numpy(), expected[f"grad{step}"], EXACT)
        assert_close(loss.lookup_table.numpy(), expected[f"lut{step + 1}"], EXACT)
        assert_close(loss.circular_queue.numpy(), expected[f"cq{step + 1}"], EXACT)
        theirs = expected[f"omega{step + 1}"]
        np.testing.assert_allclose(loss.queue_weights, theirs, rtol=EXACT)


def test_detection_and_box_loss_and_their_gradients_are_the_published_ones(
    tiny_network, monkeypatch
):
    expected = numbers("det_losses")
    logits = torch.from_numpy(expected["class_logits"]).requires_grad_()
    deltas = torch.from_numpy(expected["box_regression"]).requires_grad_()
    heads = tiny_network.roi_heads
    monkeypatch.setattr(heads, "pool", lambda feature_map, boxes: None)
    monkeypatch.setattr(heads, "describe", lambda _: (deltas[:, 4:], logits, torch.zeros(40, 256)))
    targets = [torch.from_numpy(expected[f"targets{i}"]) for i in range(2)]
    monkeypatch.setattr(heads.coder, "encode", lambda matched, boxes: targets)
    monkeypatch.setattr(heads.reid_loss, "forward", lambda embeddings, ids: embeddings.sum())
    sampled = [
        SampledRegions(
            torch.zeros(20, 4),
            torch.from_numpy(expected[f"labels{i}"]) > 0,
            torch.zeros(20).long(),
            torch.zeros(20, 4),
        )
        for i in range(2)
    ]

    losses = heads.losses(torch.zeros(1), sampled)
    (losses["loss_detection"] + 10 * losses["loss_box_reg"]).backward()

    for name in ("loss_detection", "loss_box_reg"):
        assert_close(losses[name].item(), expected[name], EXACT)
    assert_close(logits.grad.numpy(), expected["grad_logits"], EXACT)
    assert_close(deltas.grad.numpy(), expected["grad_box"], EXACT)


@pytest.mark.parametrize("head", ["nae", "nae_plus_res5"])
def test_one_training_step_is_the_published_one(head, tmp_path, monkeypatch):
    expected = numbers(f"train_step_{head.removesuffix('_res5')}")
    checkpoint = save_published(tmp_path / "checkpoint.pth", head)
    network = load_reference(checkpoint, min_size=SMALL[0], max_size=SMALL[1])
    checkpoint.unlink()
    network.roi_heads.embedding_head.published_labels = True
    config = TrainConfig(data=[Path("scenes")], out=Path("run"), lr=0.003)
    optimizer = _optimizer(
        config.optimizer, network, config.lr, config.momentum, config.weight_decay
    )
    batch = collate([training_scene(i, name, expected) for i, name in enumerate("ab")])
    sample_as_published(network, expected, monkeypatch)
    for name, ours, before, _ in first_numbers(network, expected):
        np.testing.assert_allclose(ours, before, rtol=1e-6, err_msg=name)

    network.train()
    # Not channels last, as training is for speed: torch's batch norm then sums in float32 on a CPU.
    losses = network(batch.images, batch.sizes, batch.targets)
    weights = {"loss_box_reg": config.box_loss_weight}
    total = torch.stack([weights.get(name, 1) * loss for name, loss in losses.items()]).sum()
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimizer.step()
    network.roi_heads.reid_loss.update()

    names = ("detection", "box_reg", "reid", "objectness", "rpn_box_reg")
    for name in [f"loss_{name}" for name in names]:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=EXACT), name
    assert total.item() == pytest.approx(expected["total"].item(), rel=EXACT)
    # Rounding in the first layers; of NAE+ the number of threads alone moves it by 3e-5.
    tolerance = {"nae": 1e-4, "nae_plus_res5": 3e-4}[head]
    assert norm.item() == pytest.approx(expected["grad_norm"].item(), rel=tolerance)
    for name, ours, before, after in first_numbers(network, expected):
        assert_close(ours, after, 3 * EXACT)
        # Where two values are nearly equal, max-pooling sends a gradient one way or the other.
        step = np.abs(after - before).max()
        np.testing.assert_allclose(
            ours - before, after - before, rtol=0, atol=0.03 * step + 1e-7, err_msg=name
        )
    loss = network.roi_heads.reid_loss
    assert_close(loss.lookup_table[expected["lut_rows"]].numpy(), expected["lut_after"])
    assert_close(loss.circular_queue[expected["cq_rows"][:8]].numpy(), expected["cq_after8"])
    assert loss.queue_head == expected["header_cq"]


def training_scene(number: int, name: str, expected: dict[str, np.ndarray]) -> TrainingScene:
    prepared = prepare(scene(name), input_rule(name))
    labels = torch.from_numpy(expected[f"target_label_{number}"])
    target = {
        "boxes": torch.from_numpy(expected[f"gt_{number}"]),
        "person_ids": torch.where(labels == NOBODY_NAMED, -1, labels - 1),
    }
    return TrainingScene(name, torch.from_numpy(prepared.pixels), prepared.size, target)


def sample_as_published(network, expected: dict[str, np.ndarray], monkeypatch) -> None:
    """Anchors and regions are drawn as the published code drew them; the rest stays ours."""

    def draw_anchors(labels, seeds):
        drawn = []
        for kind, label in (("pos", 1), ("neg", 0)):
            masks = []
            for i, ours in enumerate(labels):
                mask = torch.zeros(len(ours), dtype=torch.bool)
                mask[expected[f"rpn_{kind}_{i}"]] = True
                assert (ours[mask] == label).all()
                masks.append(mask)
            drawn.append(masks)
        return drawn

    def draw_regions(proposals, targets):
        sampled = []
        for i, (boxes, target) in enumerate(zip(proposals, targets, strict=True)):
            candidates = torch.cat([boxes, target["boxes"]])
            drawn = expected[f"roi_{i}"]
            index, _ = matched(candidates.numpy(), drawn, pixels=PIXELS, flips=len(candidates))
            assert len(index) == len(drawn)
            labels = expected[f"label_{i}"]

            def draw(ours, seeds, index=index, labels=labels):
                masks = [torch.zeros(len(ours[0]), dtype=torch.bool) for _ in range(2)]
                masks[0][index[labels > 0]] = True
                masks[1][index[labels == 0]] = True
                assert (ours[0][masks[0]] == 1).all()
                assert (ours[0][masks[1]] == 0).all()
                return [masks[0]], [masks[1]]

            monkeypatch.setattr(heads, "sampler", draw)
            (part,) = sample([boxes], [target])
            ids = torch.from_numpy(labels[labels > 0])
            assert part.person_ids[part.is_person].tolist() == [
                -1 if label == NOBODY_NAMED else label - 1 for label in ids.tolist()
            ]
            to_boxes = torch.from_numpy(expected[f"matched_{i}"]).long()
            assert torch.equal(part.matched, target["boxes"][to_boxes])
            # Our regions are theirs to within 0.01 px; the losses are compared more exactly.
            sampled.append(dataclasses.replace(part, boxes=torch.from_numpy(drawn)))
        return sampled

    heads = network.roi_heads
    sample = heads.sample
    monkeypatch.setattr(network.rpn, "fg_bg_sampler", draw_anchors)
    monkeypatch.setattr(heads, "sampler", None)
    monkeypatch.setattr(heads, "sample", draw_regions)


def first_numbers(network, expected: dict[str, np.ndarray]):
    """Of each stored tensor: its published name; first numbers now, and theirs before and after."""
    renamed = {
        "rpn.head.conv.": "rpn.head.conv.0.0.",
        "roi_heads.box_predictor.bbox_pred.": "roi_heads.box_regressor.",
    }
    state = network.state_dict()
    for key in expected:
        kind, _, name = key.partition(":")
        if kind != "before" or "cls_score" in name or name.endswith("bbox_pred.0.weight"):
            continue  # the first rows of these two are not in our network: nothing uses them
        ours = name
        for theirs, new in renamed.items():
            ours = ours.replace(theirs, new)
        rows = slice(4, 8) if "bbox_pred.1" in name else slice(None)
        before, after = expected[key][rows], expected[f"after:{name}"][rows]
        yield name, state[ours].flatten()[: len(before)].numpy().copy(), before, after


def test_anchors_are_the_published_ones():
    expected = numbers("primitives")

    assert np.array_equal(cell_anchors(ProposalRule()), expected["cell_anchors"])
    assert np.array_equal(anchors_of(3, 4, ProposalRule()), expected["grid_3x4"])


def test_boxes_are_coded_as_published():
    expected = numbers("primitives")
    boxes, deltas = expected["boxes"], expected["deltas"]
    pairs = [torch.from_numpy(expected["gt"])], [torch.from_numpy(boxes)]

    for weights, name in ((RPN_WEIGHTS, "w1"), (BOX_WEIGHTS, "w10")):
        assert_close(BoxCoder(weights).encode(*pairs)[0], expected[f"encode_{name}"])
        for place in range(expected[f"decode_{name}"].shape[1]):
            of_class = deltas[:, 4 * place : 4 * place + 4]
            decoded = decode_boxes(of_class, boxes, weights)
            assert_close(decoded, expected[f"decode_{name}"][:, place])


def test_regions_are_pooled_as_published():
    expected = numbers("primitives")
    feature_map = expected["roi_feat"][0].transpose(1, 2, 0)

    pooled = roi_align(feature_map, expected["rois"], (14, 14), 16)

    assert_close(pooled.transpose(0, 3, 1, 2), expected["roi_out"])


def test_overlaps_are_measured_and_suppressed_as_published():
    expected = numbers("primitives")
    boxes, scores = expected["boxes"], expected["nms_scores"]

    assert nms(boxes, scores, 0.4).tolist() == expected["nms_keep_04"].tolist()
    assert nms(boxes, scores, 0.7).tolist() == expected["nms_keep_07"].tolist()
    assert_close(box_iou(boxes[:5], expected["gt"][:5]), expected["iou"])
