"""What several of these tests share: two networks, a picture, and no torch where there is none."""

import ctypes
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.tests.formula import CONFORMANCE

collect_ignore = []
if importlib.util.find_spec("torch") is None:
    collect_ignore += [
        "test_conformance.py",
        "test_conformance_nae_plus.py",
        "test_distillation.py",
        "test_heads.py",
        "test_network.py",
        "test_oim.py",
        "test_onnx_parity.py",
        "test_parity.py",
        "test_proposals.py",
        "test_reference.py",
        "test_roi_align.py",
        "test_sampling.py",
    ]
elif hasattr(ctypes.CDLL(None), "mallopt"):
    # The C library keeps large arrays that torch gives back. Else it returns them to the system and
    # asks for them again, page by page: a sixth of the time of tests with whole scenes.
    M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
    ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
if importlib.util.find_spec("pi_heif") is None:
    collect_ignore += ["test_heif.py"]
if importlib.util.find_spec("scipy") is None:
    collect_ignore += [
        "test_mat.py",
        "test_published_layouts.py",
        "test_published_protocols.py",
    ]


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> Path:
    """Tiny datasets in the layouts of CUHK-SYSU and PRW; tests must not change them."""
    directory = tmp_path_factory.mktemp("originals")
    with zipfile.ZipFile(CONFORMANCE / "eval" / "datasets.zip") as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture(scope="session")
def picture():
    """Makes smooth, colourful pictures, as unlike each other as their seeds."""

    def make(seed: int, height: int = 150, width: int = 200) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture(scope="session")
def tiny_network(make_tiny_network):
    """A network for CPUs, untrained, that sees differences and finds people in about half it sees.

    Tests must not change it.
    """
    return make_tiny_network("nae")


@pytest.fixture(scope="session")
def make_tiny_network(picture):
    """Makes such a network with a head of one's choice."""
    import torch

    from models.nn.network import build_network
    from models.preprocess import prepare

    def make(head: str):
        torch.manual_seed(0)
        network = build_network(
            head, "efficientnet_lite0", num_ids=5, queue_size=8, min_size=128, max_size=192
        )
        norms = [
            m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
        ]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0  # the first batch is all its statistics
        prepared = [prepare(picture(seed), network.card.input) for seed in range(2)]
        target = {"boxes": torch.tensor([[20.0, 20, 60, 110]]), "person_ids": torch.tensor([3])}
        network.train()
        network(
            torch.stack([torch.from_numpy(one.pixels) for one in prepared]),
            [one.size for one in prepared],
            [target, target],
        )
        network.roi_heads.reid_loss.update()
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        return network.eval()

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_network, tmp_path_factory) -> Path:
    """Its model file."""
    from models.nn.export import export

    return export(tiny_network, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def published_checkpoint(tmp_path_factory) -> Iterator[Path]:
    """A checkpoint as the published code writes it, with the weights of the formula."""
    path = tmp_path_factory.mktemp("published") / "checkpoint.pth"
    yield save_published(path, "nae")
    path.unlink()


def save_published(path: Path, head: str) -> Path:
    import torch

    from models.tests.formula import formula_state

    state = {name: torch.from_numpy(array) for name, array in formula_state(head).items()}
    content = {"epoch": 22, "model": state, "optimizer": {}, "lr_scheduler": {}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def refusal(capsys):
    """Runs a command that has to refuse; what it says."""

    def run(main, *words):
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        return said[said.index("error: ") :].strip()

    return run
