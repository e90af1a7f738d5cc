"""python -m service.demo: index some scenes over HTTP, look for one of the people in them, and draw
what was found. With no option, it uses the scenes that come with the project."""

if __name__ == "__main__":
    from models.command import run

    run("service.demo.__main__")

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from indexer.ingest.folders import find_images
from models.boxes import box_iou
from models.command import command
from models.errors import DatasetError
from models.image import DecodedImage, encode_jpeg, read_image
from service.demo.local import Client, LocalError, NoAnswerError, running_service
from service.demo.picture import Panel, draw_result

DEMO_SCENES = Path(__file__).parent.parent / "demo_scenes"
SHOWN = 5
CLEAR_HEIGHT_PX = 40

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Labels:
    """Who is where, as annotations.json says: person id and box, by file name."""

    people: dict[str, list[tuple[int, Box]]]

    def person_at(self, name: str, box: Box) -> int | None:
        """Who is labelled there, at an IoU of at least 0.5; −1 is a person without identity."""
        for person, labelled in self.people.get(name, []):
            if box_iou(np.array([box]), np.array([labelled]))[0, 0] >= 0.5:
                return person
        return None


@dataclass(frozen=True)
class LookedFor:
    """Whom the demo looks for."""

    path: Path
    box: Box
    person: int | None


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m service.demo", description=__doc__)
    parser.add_argument(
        "--scenes",
        type=Path,
        default=DEMO_SCENES,
        metavar="DIR",
        help="a folder of pictures (default: those that come with this)",
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="where the picture goes (default: demo)")  # fmt: skip
    parser.add_argument("--base-url", help="use this running service instead of an own one")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        paths, labels = read_scenes(options.scenes)
        base_url = options.base_url
        if base_url is None:
            print("Starting the service on a free port, with an empty gallery …")
            base_url = stack.enter_context(running_service())
        client = Client(base_url)
        stack.callback(client.close)
        demo(client, paths, labels, options.out)
    _say_how_to_go_on()
    return 0


def read_scenes(folder: Path) -> tuple[list[Path], Labels | None]:
    """Pictures of a folder, and what is known about them.

    Raises:
        DatasetError: there are fewer than two pictures, or annotations.json is not readable.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    paths = [found.path for found in find_images([folder]).files]
    if len(paths) < 2:
        raise DatasetError(
            f"{folder} holds {len(paths)} pictures (.jpg, .png, .webp, .avif); the demo needs two: "
            "one to take a person from, one to find them in"
        )
    described = folder / "annotations.json"
    if not described.is_file():
        return paths, None
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        names = [Path(image["file"]).name for image in content["images"]]
        people: dict[str, list[tuple[int, Box]]] = {name: [] for name in names}
        for box in content["boxes"]:
            if not box.get("ignore"):
                x, y = float(box["x"]), float(box["y"])
                corners = (x, y, x + float(box["w"]), y + float(box["h"]))
                people[names[box["image"]]].append((int(box["person_id"]), corners))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DatasetError(f"{described}: expected images and boxes ({error!r})") from error
    return paths, Labels(people)


def demo(client: Client, paths: Sequence[Path], labels: Labels | None, out: Path) -> None:
    """Index, choose, search, print and draw.

    Raises:
        DatasetError: nobody was found to look for.
        NoAnswerError: the service is not there.
        LocalError: it answered with a problem.
    """
    records: dict[Path, Any] = {}
    for path in tqdm(paths, desc="Adding scenes", unit="scene", file=sys.stdout):
        try:
            records[path] = client.post("/gallery/images", [path.read_bytes()])
        except NoAnswerError:
            raise
        except LocalError as error:
            tqdm.write(f"left out {path.name}: {error}")
    if not records:
        raise LocalError(f"the service took none of {len(paths)} scenes")
    found = sum(len(record["detections"]) for record in records.values())
    print(f"{len(records)} scenes hold {found} people.")
    wanted = None if labels is None else labelled_person(list(records), labels)
    wanted = wanted or clearest_person(records)
    scene = read_image(wanted.path)
    crop = cut(scene, wanted.box)
    print(f"\nLooking for one person of {wanted.path.name}, in all other scenes:\n")
    answer = client.post(
        "/search",
        [encode_jpeg(crop)],
        {
            "request": {
                "limit": SHOWN,
                "group_by": "image",
                "filter": {"image_id": {"not_in": [records[wanted.path]["id"]]}},
            }
        },
    )
    names = {record["id"]: path for path, record in records.items()}
    hits = answer["hits"]
    if not hits:
        raise DatasetError("nobody was found in the other scenes")
    rows, panels = [], []
    for hit in hits:
        path, box = names[hit["image"]["id"]], corners_of(hit["detection"]["box"])
        same = ""
        if labels is not None and wanted.person is not None:
            same = {wanted.person: "yes", None: "?"}.get(labels.person_at(path.name, box), "no")
        rows.append(_row(hit, path, box, same))
        title = f"{hit['rank']}   score {hit['score']:.3f}"
        panels.append(Panel(read_image(path).pixels, box, title, path.name, same == "yes"))
    heads = ["rank", "scene", "box x1 y1 x2 y2", "score", "similarity", "likely", "detection"]
    print_table([*heads, *(["same person"] if rows[0][-1] else [])], rows)
    print("\nscore = detection score × similarity; it ranks, and is no probability.")
    enough = answer["index"]["match_similarity"]
    if enough is not None:
        print(
            f"likely = a similarity above {enough:.2f}: of different people whom the model "
            "was validated on, fewer than 1 % are so alike."
        )
    timings = answer["timings_ms"]
    print(
        f"The search took {timings['infer']:.0f} ms to see and {timings['search']:.0f} ms to rank."
    )
    query = Panel(scene.pixels, wanted.box, "Who is this?", wanted.path.name, False)
    model = answer["index"]["model"]
    for path in draw_result(
        query, panels, f"{found} people in {len(records)} scenes, {model}", out
    ):
        print(f"Picture: {path}")


def labelled_person(paths: Sequence[Path], labels: Labels) -> LookedFor | None:
    """The person labelled in most scenes, where they are tallest; None without any in two."""
    seen: dict[int, list[tuple[Path, Box]]] = {}
    for path in paths:
        for person, box in labels.people.get(path.name, []):
            if person >= 0:
                seen.setdefault(person, []).append((path, box))
    several = {person: places for person, places in seen.items() if len({p for p, _ in places}) > 1}
    if not several:
        return None

    def height(place: tuple[Path, Box]) -> float:
        return place[1][3] - place[1][1]

    person = max(several, key=lambda id: (len({p for p, _ in several[id]}),
                                          max(map(height, several[id])), -id))  # fmt: skip
    path, box = max(several[person], key=height)
    return LookedFor(path, box, person)


def clearest_person(records: dict[Path, Any]) -> LookedFor:
    """In the first scene with somebody of good size: the surest and tallest.

    Raises:
        DatasetError: nobody was found anywhere.
    """
    for least in (CLEAR_HEIGHT_PX, 0):
        for path, record in records.items():
            people = [
                (found["detection_score"] * (box[3] - box[1]), box)
                for found in record["detections"]
                if (box := corners_of(found["box"]))[3] - box[1] >= least
            ]
            if people:
                return LookedFor(path, max(people)[1], None)
    raise DatasetError("nobody was found in these pictures; try others, with larger people")


def cut(scene: DecodedImage, box: Box) -> Any:
    """The pixels of a box, within the scene; at least 32 × 32, as the service takes them."""
    x1, y1, x2, y2 = (round(side) for side in box)
    x1, y1 = max(0, min(x1, scene.width - 32)), max(0, min(y1, scene.height - 32))
    x2, y2 = max(x2, x1 + 32), max(y2, y1 + 32)
    return scene.pixels[y1 : min(y2, scene.height), x1 : min(x2, scene.width)]


def corners_of(box: dict[str, float]) -> Box:
    """A box of the HTTP interface as a tuple."""
    return box["x1"], box["y1"], box["x2"], box["y2"]


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    lines = [heads, *(row[: len(heads)] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _row(hit: dict[str, Any], path: Path, box: Box, same: str) -> list[str]:
    return [
        str(hit["rank"]),
        path.name,
        " ".join(f"{side:.0f}" for side in box),
        f"{hit['score']:.3f}",
        f"{hit['similarity']:.3f}",
        {True: "yes", False: "no", None: "?"}[hit["likely_match"]],
        f"{hit['detection']['detection_score']:.3f}",
        same,
    ]


def _say_how_to_go_on() -> None:
    here = Path(sys.executable)
    python = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else "python"
    ways = {
        "make demo SCENES=folder": "this, with your folder",
        f"{python} -m indexer add folder": "add a folder to a gallery in ./data",
        f"{python} -m service": "serve that gallery on http://localhost:8000",
    }
    width = max(map(len, ways))
    print("\nWith your own pictures:")
    for way, what in ways.items():
        print(f"  {way:{width}}  {what}")
    print("  curl -F image=@crop.jpg http://localhost:8000/search")
