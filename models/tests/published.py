"""The numbers in `conformance/`, and how ours are held beside them."""

import json

import numpy as np

from models.detections import Detections
from models.image import read_image
from models.preprocess import InputRule
from models.tests.formula import CONFORMANCE

SCENES = ("a", "b", "c", "d")
ALL_SCENES = (*SCENES, "full")
SIZES = {"full": (900, 1500)}
SMALL = (240, 400)
RELATIVE = 1e-4
EXACT = 1e-5
PIXELS = 0.01
ONNX_PIXELS = 0.05
NOBODY_NAMED = 5555
MARGINS = json.loads((CONFORMANCE / "margins.json").read_text())


def scene(name: str) -> np.ndarray:
    return read_image(CONFORMANCE / "images" / f"{name}.png").pixels


def input_rule(name: str) -> InputRule:
    return InputRule(*SIZES.get(name, SMALL))


def numbers(name: str) -> dict[str, np.ndarray]:
    with np.load(CONFORMANCE / f"{name}.npz") as file:
        return dict(file)


def assert_close(ours, theirs, tolerance: float = RELATIVE) -> None:
    """Relative to the element, or to the whole's root mean square where the element is small."""
    scale = np.sqrt(np.mean(np.square(theirs, dtype=np.float64)))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)


def assert_rows_close(ours, theirs, tolerance: float = RELATIVE) -> None:
    """By the length of the difference of two vectors, relative to the vector's length."""
    apart = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    assert apart.max() <= tolerance


def matched(ours: np.ndarray, theirs: np.ndarray, *, pixels: float, flips: int = 0):
    """Two sets of boxes as pairs of indices; all but `flips` of each must be in a pair."""
    apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    our_index = apart.argmin(axis=0)
    their_index = np.flatnonzero(apart[our_index, np.arange(len(theirs))] <= pixels)
    our_index = our_index[their_index]
    assert len(set(our_index)) == len(our_index)
    assert len(theirs) - len(their_index) <= flips
    assert abs(len(ours) - len(theirs)) <= flips
    return our_index, their_index


def flips(name: str, head: str = "nae") -> int:
    """How many boxes may differ: none, if all decisions of the scene are clear."""
    margins = [v for k, v in MARGINS[f"{head}_{name}"].items() if k != "det_score_gap_min"]
    return 0 if min(margins) > 1e-5 else 2


def assert_detections(
    found: Detections, expected: dict[str, np.ndarray], pixels: float, allowed: int
) -> None:
    ours, theirs = matched(found.boxes, expected["det_boxes"], pixels=pixels, flips=allowed)
    weighted = (found.embeddings * found.scores[:, None])[ours]
    stored = theirs < len(expected["det_embeddings24"])

    assert (np.diff(found.scores) <= 0).all()
    assert_close(found.scores[ours], expected["det_scores"][theirs])
    assert_rows_close(weighted[stored], expected["det_embeddings24"][theirs[stored]])
    assert_close(np.linalg.norm(weighted, axis=1), expected["det_embedding_norm"][theirs])
    np.testing.assert_allclose(
        weighted.sum(axis=1), expected["det_embedding_sum"][theirs], atol=16 * RELATIVE
    )
