import dataclasses
import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models import bench, evaluate, report
from models.boxes import box_iou
from models.datasets.read import read_dataset
from models.datasets.scene import Query
from models.datasets.synthetic import write_synthetic
from models.detections import Detections
from models.detector import DEFAULT_MODEL
from models.errors import DatasetError, ModelFileError
from models.evaluate import find, score
from models.model_card import load_card
from models.reporting import subjects, tables
from models.reporting.cited import CITED, CUHK_SYSU, SOURCES
from models.reporting.galleries import gallery_sizes, with_galleries_of
from models.reporting.measure import describe, measure
from models.reporting.outcome import Cell, Outcome, Run, by_head
from models.reporting.page import Pictures, page
from models.reporting.people import choose_people
from models.reporting.subjects import read_subject, read_subjects
from models.reporting.trends import trends
from models.reporting.words import GROUND_TRUTH, percent


class ForgetfulDetector:
    """Finds everybody a little beside themselves, and mixes people up, more or less by its seed."""

    def __init__(self, dataset, card, *, seed, noise):
        self.card = card
        self.scenes = {scene.read().tobytes(): scene for scene in dataset.scenes}
        self.people = len(dataset.source_ids) + 1
        self.seed, self.noise, self.detected = seed, noise, 0

    def detect(self, images):
        self.detected += len(images)
        return [self._found(image) for image in images]

    def _found(self, image):
        scene = self.scenes[image.tobytes()]
        boxes = np.clip(
            scene.boxes + np.float32(self.seed), 0, [scene.width, scene.height] * 2
        ).astype(np.float32)
        scores = np.linspace(0.95, 0.6, len(boxes)).astype(np.float32)
        return Detections(boxes, scores, self.embed(image, boxes))

    def embed(self, image, boxes):
        scene = self.scenes[image.tobytes()]
        who = scene.person_ids[box_iou(boxes, scene.boxes).argmax(axis=1)]
        random = np.random.default_rng([self.seed, len(image.tobytes()) % 97, scene.width])
        table = np.eye(self.people) + self.noise * random.standard_normal((self.people,) * 2)
        rows = table[who] + 0.001 * boxes[:, :1]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def attention(self, image, boxes):
        return np.tile(np.linspace(0, 1, 21, dtype=np.float32).reshape(7, 3), (len(boxes), 1, 1))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=12, persons=4, cameras=2, size=(320, 240), seed=1)
    return directory


def card(name, head, **other):
    shipped = load_card(DEFAULT_MODEL)
    rule = dataclasses.replace(shipped.detections, score_threshold=0.1 + 0.001 * len(name))
    sums = {"scene.onnx": name, "head.onnx": name}
    return dataclasses.replace(shipped, name=name, head=head, detections=rule, sha256=sums, **other)


@pytest.fixture
def models(directory, tmp_path, monkeypatch):
    """Five models in files that are not there: two seeds of NAE and of OIM, one NAE+."""
    dataset = read_dataset(directory)
    made = {}
    for number, (head, noise) in enumerate(
        [("nae", 0.35), ("nae", 0.4), ("oim", 0.6), ("oim", 0.7), ("nae_plus", 0.3)]
    ):
        path = tmp_path / f"{head}-{number}"
        made[path] = ForgetfulDetector(dataset, card(path.name, head), seed=number + 1, noise=noise)
    monkeypatch.setattr(report, "load_card", lambda path: made[path].card)
    monkeypatch.setattr(report, "OnnxDetector", lambda path, device: made[path])
    monkeypatch.setattr(evaluate, "OnnxDetector", lambda path, device: made[path])
    milliseconds = {stage: [0.012] for stage in bench.DETECTION_STAGES}
    monkeypatch.setattr(bench, "measure", lambda *_, **__: milliseconds)
    return made


@pytest.fixture
def runs(models):
    return [Run(path, detector.card) for path, detector in models.items()]


@pytest.fixture
def outcome(directory, models, runs):
    return measure(read_subject(directory), runs, models.__getitem__)[0]


def rows_of(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def searched(*maps, ap=None):
    """A cell of seeds with these search mAPs; each has the same two queries."""
    results = [
        {"detection": None, "search": {"map": m, "top_1": m, "ap": ap or [m, m]}} for m in maps
    ]
    return Cell(tuple(results), tuple(f"run {seed}" for seed in range(len(maps))))


def told(whole, unweighted=None, crossed=None, published_as=None):
    data = dict.fromkeys(("scenes", "persons", "queries"), 2)
    data |= {"protocol": "scenes", "licence": "free"}
    return Outcome("toy", published_as, data, whole, unweighted or whole, crossed or {})


def verdicts(outcome):
    return {trend.claim: trend.verdict for trend in trends(outcome)}


def test_each_model_detects_every_scene_once(directory, models, outcome):
    assert {detector.detected for detector in models.values()} == {12}


def test_describing_for_all_at_once_gives_what_find_gives_one_by_one(directory, models):
    dataset = read_dataset(directory)
    first, second, other = list(models.values())[:3]
    own, theirs = find(first, dataset), find(other, dataset)

    at_once = describe(first, dataset, own, {"theirs": theirs})

    one_by_one = {
        "theirs": find(other, dataset, reidentifier=first),
        GROUND_TRUTH: find(first, dataset, gt_boxes=True),
    }
    assert at_once.keys() == one_by_one.keys()
    for name, expected in one_by_one.items():
        assert score(at_once[name], dataset) == score(expected, dataset)
    assert score(at_once["theirs"], dataset) != score(find(second, dataset), dataset)


@pytest.mark.slow
def test_every_command_prints_the_figures_beside_it(outcome, models, tmp_path, capsys):
    cells = [*outcome.whole.values(), *outcome.unweighted.values(), *outcome.crossed.values()]
    for cell in cells:
        for result, line in zip(cell.results, cell.commands, strict=True):
            python, flag, module, *arguments = shlex.split(line)
            evaluate.main([*arguments, "--json", str(tmp_path / "one.json")])

            printed = json.loads((tmp_path / "one.json").read_text())
            assert [python, flag, module] == ["python", "-m", "models.evaluate"]
            assert printed["search"] == result["search"]
            assert printed["detection"] == result["detection"]


def test_seeds_of_two_heads_are_paired_as_far_as_there_are_pairs(outcome):
    seeds = {key: len(cell.results) for key, cell in outcome.crossed.items()}

    assert seeds["nae", "oim"] == seeds["nae", "nae"] == seeds[GROUND_TRUTH, "oim"] == 2
    assert seeds["nae", "nae_plus"] == seeds["nae_plus", "oim"] == 1


def test_a_row_is_the_mean_and_the_sample_deviation_of_its_seeds():
    assert percent([0.5, 0.6]) == "55.0 ± 7.1"
    assert percent([0.5]) == "50.0"
    assert percent([]) == "–"


def test_figures_of_another_dataset_have_a_column_of_their_own():
    header, _, *rows = rows_of(tables.comparison([told({"nae": searched(0.5, 0.6)})]))

    cited = next(row for row in rows if row[0] == "NAE")
    ours = next(row for row in rows if row[0] == "**NAE**")
    toy = header.index("toy, mAP / top-1")
    assert cited[2].startswith("91.5 / 92.4") and cited[toy] == "–"
    assert ours[2:4] == ["–", "–"]
    assert ours[toy] == "55.0 ± 7.1 / 55.0 ± 7.1"


def test_figures_of_the_published_dataset_stand_in_the_published_column():
    own = told({"nae": searched(0.9)}, published_as=CUHK_SYSU)

    header, _, *rows = rows_of(tables.comparison([own]))

    assert len(header) == 5
    assert next(row for row in rows if row[0] == "**NAE**")[2] == "90.0 / 90.0"


def test_every_column_of_ours_names_the_dataset(outcome):
    for build in (tables.ablation, tables.detectors, tables.weighting):
        header = rows_of(build(outcome))[0]
        figures = [name for name in header if name.endswith("%")]
        assert len(figures) == 2
        assert all(name.startswith(f"ours: {outcome.title}") for name in figures)


def test_heads_that_were_not_given_stay_in_the_tables_as_unmeasured():
    rows = rows_of(tables.ablation(told({"nae": searched(0.5)})))

    assert len(rows) == 2 + 4 * 3 + 3
    assert [row[-2] for row in rows if row[0] == "OIM, whole"] == ["0"]


def test_all_tables_are_rectangular(outcome):
    for build in (tables.ablation, tables.detectors, tables.weighting, tables.by_size):
        assert len({len(row) for row in rows_of(build(outcome))}) == 1


def test_a_trend_that_does_not_appear_is_told():
    found = trends(told({"oim": searched(0.5, 0.6), "nae": searched(0.3, 0.4)}))

    assert found[0].verdict == "no"
    assert found[0].says.startswith("−20.0 points of mAP, ± 10.0 over 2 and 2 seeds")
    assert (found[1].verdict, "NAE+" in found[1].says) == ("not measured", True)


def test_a_difference_within_its_spread_is_not_settled():
    found = trends(told({"oim": searched(0.2, 0.6), "nae": searched(0.3, 0.7)}))

    assert found[0].verdict == "not settled"


def test_one_seed_each_does_not_settle_a_difference_between_heads():
    found = trends(told({"oim": searched(0.5), "nae": searched(0.9)}))[0]

    assert found.verdict == "not settled"


def test_one_seed_each_still_has_a_spread_over_the_queries():
    cells = {"oim": searched(0.5, ap=[0.4, 0.6]), "nae": searched(0.6, ap=[0.8, 0.4])}

    found = trends(told(cells))[0]

    assert "1 and 1 seed, so no spread over seeds" in found.says
    assert "± 30.0 over the queries" in found.says


def test_heads_that_reach_the_same_settle_nothing():
    same = searched(0.5, 0.5)

    claims = verdicts(told({"oim": same, "nae": same, "nae_plus": same}))

    assert claims["NAE has a higher search mAP than OIM"] == "not settled"
    assert claims["NAE+ is at least as good as NAE"] == "not settled"


def test_the_gain_of_class_weighting_is_taken_seed_by_seed():
    on, off = {"nae": searched(0.4, 0.8)}, {"nae": searched(0.3, 0.7)}

    found = next(trend for trend in trends(told(on, off)) if "helps NAE" in trend.claim)

    assert found.verdict == "yes"
    assert found.says.startswith("+10.0 points of mAP, ± 0.0 over 2 seeds")


@pytest.mark.parametrize(("seeds", "verdict"), [(2, "no"), (1, "not settled")])
def test_the_order_of_detectors_names_what_breaks_it(seeds, verdict):
    heads = {"oim": searched(0.5), "nae": searched(0.6)}
    crossed = {
        (detector, head): searched(*[value] * seeds)
        for head in heads
        for detector, value in (("oim", 0.5), ("nae", 0.4), (GROUND_TRUTH, 0.9))
    }

    found = trends(told(heads, crossed=crossed))[-1]

    assert found.verdict == verdict
    assert "2 of 4 neighbours in order" in found.says
    assert "NAE with OIM −10.0" in found.says


def test_a_dataset_without_queries_measures_no_trend():
    nobody = Cell(({"detection": {"recall": 1, "ap": 1}, "search": None},), ("run",))
    heads = {"oim": nobody, "nae": nobody}

    assert {*verdicts(told(heads)).values()} == {"not measured"}


def test_galleries_grow_into_one_another_and_always_show_the_person(directory):
    dataset = read_dataset(directory)
    sizes = gallery_sizes(dataset)

    grown = [with_galleries_of(dataset, size) for size in sizes]

    assert sizes == (5, 11)
    for small, large, whole in zip(*(own.queries for own in (*grown, dataset)), strict=True):
        shown = [
            index
            for index in whole.gallery
            if (dataset.scenes[index].person_ids == whole.person_id).any()
        ]
        assert {*shown} <= {*small.gallery} <= {*large.gallery}
        assert len(small.gallery) == max(5, len(shown))
        assert (large.gallery == whole.gallery).all()


def test_a_smaller_gallery_keeps_the_boxes_that_are_to_be_found(directory):
    dataset = read_dataset(directory)
    gallery = np.array([3, 1, 4, 1, 5, 8, 9], np.int64)
    box = dataset.scenes[0].boxes[0]
    query = Query(0, box, 0, gallery, np.array([[2, 0], [6, 0]], np.int64))
    asked = dataclasses.replace(dataset, queries=(query,))

    (small,) = with_galleries_of(asked, 4).queries

    assert len(small.gallery) == 4
    assert small.gallery[small.truth[:, 0]].tolist() == [4, 9]
    assert small.truth[:, 1].tolist() == [0, 0]


def test_the_first_scenes_of_a_dataset_are_not_called_the_dataset(directory):
    whole, part = read_subject(directory), read_subject(directory, 5)

    assert part.title == f"{whole.title}, first 5 scenes"
    assert part.arguments == ("--data", directory, "--limit", 5)


@pytest.fixture(scope="module")
def published_layouts(tmp_path_factory):
    pytest.importorskip("scipy")
    directory = tmp_path_factory.mktemp("layouts")
    with zipfile.ZipFile(Path(__file__).parent / "conformance/eval/datasets.zip") as archive:
        archive.extractall(directory)
    return directory


def test_cuhk_sysu_is_searched_in_the_galleries_of_its_own_lists(published_layouts):
    subject = read_subject(published_layouts / "cuhk")

    assert [*subject.by_size] == [50, 100, 500, 1000, 2000, 4000]
    assert subject.sizes_arguments == ("--gallery-size", 50, 100, 500, 1000, 2000, 4000)
    assert [*read_subject(published_layouts / "prw").by_size] == [5, 10, 20, 29]


@pytest.mark.parametrize(("folder", "name"), [("cuhk", "CUHK-SYSU"), ("prw", "PRW")])
def test_only_the_whole_test_set_is_compared_with_published_figures(
    published_layouts, folder, name, monkeypatch
):
    part = read_subject(published_layouts / folder)
    sizes = len(part.dataset.scenes), len(part.dataset.queries)
    monkeypatch.setitem(subjects.PUBLISHED_SETS, f"{name} test", (name, *sizes))
    whole = read_subject(published_layouts / folder)

    assert (part.published_as, whole.published_as) == (None, name)
    assert part.title.startswith(f"{name}, 30 of its 6")
    assert whole.title == ("PRW" if name == "PRW" else "CUHK-SYSU (gallery 100)")


def test_two_datasets_of_one_name_are_refused(directory):
    with pytest.raises(DatasetError, match="both called"):
        read_subjects([directory, directory], None)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ([card("a", "nae"), card("a", "nae")], "same model"),
        (
            [card("a", "nae"), card("b", "nae", backbone="resnet50")],
            r"no seeds of one training \(backbone efficientnet_lite0 and resnet50\)",
        ),
        (
            [card("a", "nae"), card("b", "nae", training={"scenes": [{"name": "other"}]})],
            r"no seeds of one training \(.*scenes \['.*'\] and \['other'\]",
        ),
        ([card("a", "nae", training={}), card("b", "nae", training={})], "does not tell how"),
        ([card("a", "seqnet")], "expected a head of oim, nae"),
    ],
)
def test_models_that_are_no_seeds_of_a_row_are_refused(cards, message, tmp_path):
    with pytest.raises(ModelFileError, match=message):
        by_head([Run(tmp_path / str(number), own) for number, own in enumerate(cards)])


def test_seeds_may_differ_in_seed_and_machine_alone():
    shipped = load_card(DEFAULT_MODEL).training
    recipe = {**shipped["recipe"], "seed": 2, "threads": 1}
    other = card("b", "nae", training={**shipped, "recipe": recipe})

    groups = by_head([Run(Path("a"), card("a", "nae")), Run(Path("b"), other)])

    assert len(groups["nae"]) == 2


def test_shipped_models_are_known_by_name_and_not_averaged(directory, tmp_path, refusal):
    pytest.importorskip("matplotlib")
    words = ["--model", "nae-lite", "--model", "nae-lite-clean"]

    said = refusal(report.main, *words, "--data", directory, "--out", tmp_path)

    assert said.startswith(
        "error: nae-lite and nae-lite-clean both have the head nae, and are no seeds of one "
        "training (scenes "
    )


def test_every_cited_figure_is_a_percentage_with_a_known_source():
    figures = [own for row in CITED for own in row.figures.values()]

    assert all(0 < own.map < own.top_1 < 100 for own in figures)
    assert {own.checked for own in figures} - {None} == SOURCES.keys()


def test_people_are_taken_from_all_scenes_before_a_second_of_one():
    tall, small = [0, 0, 30, 90], [0, 0, 30, 40]

    def scene(*boxes):
        scores = np.linspace(0.9, 0.8, len(boxes)).astype(np.float32)
        embeddings = np.eye(4, dtype=np.float32)[: len(boxes)]
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, embeddings)

    detections = [scene(small, tall, tall), scene(), scene(tall), scene(tall, tall)]

    assert choose_people(detections, 4) == [(0, 1), (0, 2), (2, 0), (3, 0)]
    assert choose_people(detections, 2) == [(0, 1), (3, 0)]
    assert choose_people([scene(small)], 3) == []


@pytest.mark.slow
def test_the_command_writes_one_page_with_its_figures(models, directory, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, numbers = tmp_path / "report", tmp_path / "numbers.json"
    given = [word for path in models for word in ("--model", str(path))]

    report.main([*given, "--data", str(directory), "--out", str(out), "--json", str(numbers)])

    text = (out / "report.md").read_text()
    drawn = sorted(path.name for path in out.glob("*.png"))
    (dataset,) = json.loads(numbers.read_text())["datasets"]
    assert len(drawn) == 2 and all(f"({name})" in text for name in drawn)
    assert text.count("## ") == 7
    assert "python -m models.bench --model" in text
    assert dataset["data"]["scenes"] == 12
    assert len(dataset["crossed"]) == 4 * 3
    for trend in dataset["trends"]:
        assert f"| {trend['claim']} | **{trend['verdict']}** |" in text


def test_the_page_says_what_there_is_nothing_to_draw_of(runs):
    nobody = Cell(({"detection": {"recall": 1, "ap": 1}, "search": None},), ("run",))

    text = page([told({"nae": nobody})], runs, Pictures(), "python -m models.report")

    assert "toy asks no queries" in text
    assert "no model with an NAE+ head was given" in text
    assert "not measured" in text


def test_an_unreadable_dataset_ends_with_a_message(models, tmp_path, refusal):
    pytest.importorskip("matplotlib")
    words = ["--model", next(iter(models)), "--data", tmp_path / "none", "--out", tmp_path]

    assert "no such file or directory" in refusal(report.main, *words)


@pytest.mark.slow
def test_the_report_can_be_asked_for_without_torch_and_matplotlib(tmp_path):
    blocked = "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None; "
    arguments = ["--model", str(DEFAULT_MODEL), "--data", str(tmp_path), "--out", str(tmp_path)]
    code = f"{blocked}from models import report; report.main({arguments})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "\n" not in done.stderr.strip()
    assert done.stderr.startswith("error: figures need matplotlib: ") and "[train]" in done.stderr
