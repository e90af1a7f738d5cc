"""What a network that tells people apart says of crops, computed once and kept in a file.

    python -m models.datasets.teacher answers.npz --model person-reidentification-retail-0277.xml \\
        --crops crops.zip --crops renders

Another network learns from these answers (`python -m service.train --teacher answers.npz`), which
then takes neither this network nor OpenVINO. The command goes on where it was stopped: crops that
have an answer in the file are passed over.
"""

if __name__ == "__main__":
    from models.command import run

    run("models.datasets.teacher")

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from models.boxes import clip_boxes
from models.command import command, goes_on
from models.datasets.crops import decoded, key_of, list_crops
from models.datasets.read import read_dataset
from models.datasets.scene import Scene
from models.errors import DatasetError, ModelFileError
from models.packages import how_to_install

SAVE_EVERY = 2000
LEAST_SIDE = 8
"""Of a box within its scene, in pixels; smaller ones get no answer."""


@dataclass
class Answers:
    """Unit vectors by what they are of.

    Attributes:
        teacher: name of the network that gave them.
        vectors: by key (`key_of`, `key_of_box`), each [D] float16 of length 1.
    """

    teacher: str
    vectors: dict[int, NDArray[np.float16]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote.

        Raises:
            DatasetError: it is missing, or no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                teacher = str(content["teacher"])
                keys, vectors = content["keys"], content["vectors"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DatasetError(
                f"{path}: expected a file of a teacher's answers: {error}"
            ) from error
        if vectors.ndim != 2 or keys.shape != vectors.shape[:1]:
            raise DatasetError(
                f"{path}: expected as many answers as keys, got {vectors.shape} and {keys.shape}"
            )
        return cls(teacher, dict(zip(keys.tolist(), vectors, strict=True)))

    def write(self, path: Path) -> None:
        """Write them beside, then rename: whoever reads sees the old file or the new one."""
        partial = path.with_suffix(".partial")
        keys = np.array(list(self.vectors), np.int64)
        vectors = np.array(list(self.vectors.values()), np.float16)
        with partial.open("wb") as file:
            np.savez(file, teacher=np.array(self.teacher), keys=keys, vectors=vectors)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def key_of_box(scene: int, box: NDArray[np.floating]) -> int:
    """What somebody in a scene is known by.

    Args:
        scene: `key_of` its encoded picture.
        box: [4], in pixels of the scene.
    """
    return key_of(scene.to_bytes(8, "big") + np.asarray(box, np.float32).tobytes())


class Teacher:
    """A network in OpenVINO's format: a picture of one person to a vector."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load it.

        Args:
            path: the .xml, its .bin beside it; one input 1 × 3 × H × W, BGR in 0 … 255, and one
                output, 1 × D.
            threads: of the CPU.

        Raises:
            ModelFileError: it cannot be loaded or is of another shape; or OpenVINO is missing.
        """
        try:
            import openvino
        except ImportError:
            raise ModelFileError(
                f"{path}: asking it needs OpenVINO: {how_to_install('openvino')}"
            ) from None
        try:
            self._model = openvino.Core().compile_model(
                str(path), "CPU", {"INFERENCE_NUM_THREADS": threads}
            )
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1][:200]
            raise ModelFileError(f"{path}: not a network that OpenVINO loads: {first}") from error
        shapes = [[tuple(port.shape) for port in self._model.inputs]]
        shapes.append([tuple(port.shape) for port in self._model.outputs])
        (inputs, outputs) = shapes
        if (
            len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][:2] != (1, 3)
            or len(outputs) != 1 or len(outputs[0]) != 2
        ):  # fmt: skip
            raise ModelFileError(
                f"{path}: expected one input 1 × 3 × H × W and one output 1 × D, got {inputs} and "
                f"{outputs}"
            )
        self.name = path.stem
        self.height, self.width = (int(side) for side in inputs[0][2:])

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.float16]:
        """The unit vector [D] of a picture of one person [H, W, 3]."""
        fitted = Image.fromarray(crop).resize((self.width, self.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(fitted, np.float32)[None, :, :, ::-1].transpose(0, 3, 1, 2)
        vector: NDArray[np.float32] = self._model(np.ascontiguousarray(pixels))[0][0]
        return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float16)


def ask(
    teacher: Callable[[NDArray[np.uint8]], NDArray[np.float16]],
    crops: Iterable[tuple[int, Callable[[], NDArray[np.uint8]]]],
    answers: Answers,
) -> Iterator[int]:
    """Add the answers that are not there yet, yielding how many are there after each crop.

    Args:
        crops: of each its key and how to get its pixels.

    Raises:
        DatasetError: naming a picture that cannot be read.
    """
    for key, pixels in crops:
        if key not in answers.vectors:
            answers.vectors[key] = teacher(pixels())
        yield len(answers.vectors)


def of_crops(source: Path) -> Iterator[tuple[int, Callable[[], NDArray[np.uint8]]]]:
    """What `ask` takes, of a directory or a ZIP of crops.

    Raises:
        DatasetError: nothing there, or a picture cannot be read.
    """
    for crop in list_crops(source):
        encoded = crop.read()
        name = f"{source}: {crop.name}"
        yield key_of(encoded), partial(decoded, encoded, name)


def of_scenes(source: Path) -> Iterator[tuple[int, Callable[[], NDArray[np.uint8]]]]:
    """What `ask` takes, of the people who are boxed in a dataset of scenes.

    Raises:
        DatasetError: it is none, or a picture cannot be read.
    """
    for scene in read_dataset(source, split="train").scenes:
        pixels: list[NDArray[np.uint8]] = []
        for key, box in zip(*boxes_of(scene), strict=True):
            if (box[2:] - box[:2]).min() < LEAST_SIDE:
                continue
            yield key, partial(_cut, scene, box, pixels)


def boxes_of(scene: Scene) -> tuple[list[int], NDArray[np.float32]]:
    """The people of a scene who count.

    Returns:
        Their keys, and their boxes [N, 4] within the scene.

    Raises:
        DatasetError: the picture cannot be read.
    """
    boxes = clip_boxes(scene.boxes[~scene.ignore], height=scene.height, width=scene.width)
    try:
        whole = key_of(scene.path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{scene.path}: {error.strerror}") from error
    return [key_of_box(whole, box) for box in boxes], boxes


def _cut(
    scene: Scene, box: NDArray[np.float32], pixels: list[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    if not pixels:  # of each scene once, and only if somebody in it has no answer yet
        pixels.append(scene.read())
    x1, y1, x2, y2 = box.round().astype(int).tolist()
    return pixels[0][y1:y2, x1:x2]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.teacher",
        description="Ask a network that tells people apart about crops, and keep its answers.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="of the answers, .npz")
    parser.add_argument("--model", type=Path, required=True, help="the network's .xml (OpenVINO)")
    parser.add_argument(
        "--crops", type=Path, action="append", default=[],
        help="crops named as Market-1501 does: a ZIP or a directory; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--scenes", type=Path, action="append", default=[],
        help="annotated scenes whose boxes are asked about; may be given several times",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    given = parser.parse_args(arguments)
    if given.threads < 1:
        parser.error(f"argument --threads: expected 1 or more, got {given.threads}")
    if not given.crops and not given.scenes:
        parser.error("expected crops or scenes to ask about: pass --crops or --scenes")
    teacher = Teacher(given.model, threads=given.threads)
    answers = Answers.read(given.file) if given.file.exists() else Answers(teacher.name)
    if answers.teacher != teacher.name:
        raise DatasetError(
            f"{given.file}: holds answers of {answers.teacher}, and the model is {teacher.name}"
        )
    given.file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with goes_on():
            for source, pairs in [
                *((source, of_crops(source)) for source in given.crops),
                *((source, of_scenes(source)) for source in given.scenes),
            ]:
                kept = len(answers.vectors)
                for count in tqdm(ask(teacher, pairs, answers), desc=str(source), disable=None):
                    if count - kept >= SAVE_EVERY:
                        answers.write(given.file)
                        kept = count
    finally:
        answers.write(given.file)
    print(f"{given.file}: {len(answers.vectors)} answers of {teacher.name}")
    return 0
