"""What a network may start from, and what happens to the rest of it."""

import pytest

torch = pytest.importorskip("torch")

from torchvision.models import resnet50  # noqa: E402

from models.errors import ModelFileError  # noqa: E402
from models.nn.network import build_network  # noqa: E402
from service.train.weights import load_weights  # noqa: E402

pytestmark = pytest.mark.torch


def network(head="nae", backbone="efficientnet_lite0", **changes):
    sizes = {"num_ids": 5, "queue_size": 4, "embedding_dim": 16}
    return build_network(head, backbone, **sizes | changes)


@pytest.fixture
def trained(tmp_path):
    """A checkpoint of ours, trained on the people of "a"."""
    made = network()
    for name in ("lookup_table", "circular_queue"):
        getattr(made.roi_heads.reid_loss, name).uniform_()
    content = {"network": made.state_dict(), "config": {"data": ["x"]}, "people": ["a"]}
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    return path


def test_the_memory_of_the_same_people_is_taken_along(trained):
    made = network()

    fresh = load_weights(made, trained, people=["a"])

    assert fresh == []
    before = torch.load(trained)["network"]
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("people", "num_ids"), [(["b"], 5), (["a"], 6), (["a", "b"], 5)])
def test_other_people_start_with_an_empty_memory(trained, people, num_ids):
    made = network(num_ids=num_ids)

    fresh = load_weights(made, trained, people=people)

    assert all(name.startswith("roi_heads.reid_loss.") for name in fresh)
    assert len(fresh) == 3
    assert not made.roi_heads.reid_loss.lookup_table.any()


def test_a_checkpoint_that_does_not_say_whom_it_numbered_leaves_the_memory_empty(trained):
    content = torch.load(trained)
    del content["people"]
    torch.save(content, trained)
    made = network()

    fresh = load_weights(made, trained, people=["a"])

    assert len(fresh) == 3
    assert not made.roi_heads.reid_loss.lookup_table.any()


def learned_directions(tmp_path):
    """A checkpoint of ours with directions for the people of "a"."""
    torch.manual_seed(8)
    made = network(reid_loss="cosine_softmax")
    torch.save(
        {"network": made.state_dict(), "config": {"data": ["x"]}, "people": ["a"]},
        tmp_path / "directions.pt",
    )
    return tmp_path / "directions.pt", made.roi_heads.reid_loss.directions


@pytest.mark.parametrize(("people", "kept"), [(["a"], True), (["b"], False)])
def test_the_directions_of_the_same_people_are_taken_along(tmp_path, people, kept):
    path, directions = learned_directions(tmp_path)
    made = network(reid_loss="cosine_softmax")

    fresh = load_weights(made, path, people=people)

    assert torch.equal(made.roi_heads.reid_loss.directions, directions) is kept
    assert fresh == ([] if kept else ["roi_heads.reid_loss.directions"])


def test_another_identity_loss_starts_fresh_of_the_same_people_too(trained, tmp_path):
    path, _ = learned_directions(tmp_path)

    directions = load_weights(network(reid_loss="cosine_softmax"), trained, people=["a"])
    table = load_weights(network(), path, people=["a"])

    assert directions == ["roi_heads.reid_loss.directions"]
    assert len(table) == 3 and all(name.startswith("roi_heads.reid_loss.") for name in table)


def test_a_head_of_other_layers_starts_fresh(trained):
    made = network("oim")

    fresh = load_weights(made, trained, people=["a"])

    assert any(name.startswith("roi_heads.embedding_head.") for name in fresh)
    assert all(name.startswith("roi_heads.embedding_head.") for name in fresh)


def test_imagenet_weights_fill_the_backbone_and_the_box_head(tmp_path):
    torch.manual_seed(3)
    classifier = resnet50(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "resnet50.pth")
    made = network(backbone="resnet50")

    fresh = load_weights(made, tmp_path / "resnet50.pth", people=[])

    assert torch.equal(made.backbone.layer3[5].conv2.weight, classifier.layer3[5].conv2.weight)
    deep = made.roi_heads.box_head.layer4[2].conv3.weight
    assert torch.equal(deep, classifier.layer4[2].conv3.weight)
    assert not any(name.startswith(("backbone.", "roi_heads.box_head.")) for name in fresh)
    assert "rpn.head.cls_logits.weight" in fresh


def test_weights_of_another_backbone_are_refused(trained):
    with pytest.raises(ModelFileError, match=r"checkpoint\.pt: does not fit .*backbone\.conv1"):
        load_weights(network(backbone="resnet50"), trained, people=["a"])


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "some.pt")

    with pytest.raises(ModelFileError, match=r"some\.pt: expected a checkpoint.*found epoch"):
        load_weights(network(), tmp_path / "some.pt", people=[])
