"""Changing the model of a gallery: its scenes are indexed anew, beside what answers meanwhile.

A generation is built scene by scene, each with one commit, so that after a death it goes on where
it was. New scenes go into both generations. Once it has all scenes, it is activated, in one step.
The one before stays as it was; to go back to it, it first gets the scenes that came since.
"""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.errors import (
    GalleryDamagedError,
    GenerationWorseError,
    ReindexIncompleteError,
    SceneNotFoundError,
)
from indexer.evaluation.comparison import Comparison, compare
from indexer.gallery.gallery import Gallery
from indexer.ingest.ingest import DetectorOf, find_people
from indexer.records import GalleryModel, Generation
from models.detections import Detections
from models.errors import ImageError, PersonSearchError

SCENES_AT_ONCE = 500
Work = Callable[[], None]


@dataclass(frozen=True)
class Progress:
    """Scenes that a generation has, scenes in all, and scenes that cannot be indexed."""

    done: int
    total: int
    failed: int


def reindex(
    gallery: Gallery,
    model: GalleryModel,
    detector_of: DetectorOf,
    *,
    activate: bool = True,
    min_map_ratio: float | None = None,
    skip_unreadable: bool = False,
    run: Callable[[Work], None] = lambda work: work(),
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_failure: Callable[[str, PersonSearchError], None] = lambda scene_id, error: None,
    on_comparison: Callable[[Comparison], None] = lambda comparison: None,
    gives_up: Callable[[BaseException], bool] = lambda error: True,
) -> Generation:
    """Give the generation of a model all scenes, and activate it.

    Does nothing twice: after an interruption it goes on, and a parked generation gets what it
    lacks. To go back, give the model of the generation that was active before.

    Args:
        detector_of: loads the model when a scene is lacking.
        activate: whether to activate it then; otherwise it is parked.
        min_map_ratio: activate it only when its search mAP on the labelled people is at least this
            share of the active generation's, see indexer/evaluation/comparison.py.
        skip_unreadable: scenes whose picture cannot be read are in the generation, with nobody in
            them; otherwise they keep it from being activated.
        run: runs the work on one scene, here or elsewhere, and returns when it is done.
        on_progress: is told after each scene, and may raise to end here.
        on_failure: is told of each scene that cannot be indexed.
        on_comparison: is told before it is activated, where min_map_ratio is given.
        gives_up: of an error, whether nobody will go on soon: then the generation is parked, and
            new scenes no longer go into it.

    Returns:
        The generation, as it is now.

    Raises:
        GenerationActiveError: the model answers already.
        GenerationBuildingError: another model is being indexed.
        ReindexIncompleteError: some scenes cannot be indexed; the generation has the others, and is
            not activated.
        TooFewLabelsError, GenerationWorseError: min_map_ratio is not reached, or cannot be told;
            the generation is parked.
        ModelFileError, StorageFullError, GalleryError: as they come.
    """
    generation = gallery.generations.begin(model)
    try:
        while True:
            failed = _fill(
                gallery, generation, detector_of, run, on_progress, on_failure, skip_unreadable
            )
            if failed and not skip_unreadable:
                raise ReindexIncompleteError(
                    f"{model.name} cannot index all images, {failed} failed; the model was not "
                    "changed. Add the same pictures again, which repairs them, delete the images, "
                    "or go on without them: skip_unreadable"
                )
            if not activate:
                gallery.generations.park(generation.id)
                break
            if min_map_ratio is not None:
                comparison = compare_generations(gallery, generation)
                on_comparison(comparison)
                if comparison.ratio < min_map_ratio:
                    raise GenerationWorseError(
                        f"On {comparison.questions} labelled people, search mAP is "
                        f"{comparison.map_before:.3f} as it is and {comparison.map_after:.3f} with "
                        f"{model.name}: {comparison.ratio:.3f} of it, asked for {min_map_ratio:g}. "
                        f"{generation.id} is kept, and does not answer."
                    )
            if gallery.generations.activate(generation.id):
                break
    except BaseException as error:
        if gives_up(error):
            gallery.generations.park(generation.id)
        raise
    return gallery.generations.get(generation.id)


def compare_generations(gallery: Gallery, generation: Generation) -> Comparison:
    """How well a generation finds labelled people again, beside the active one.

    Raises:
        TooFewLabelsError
    """
    return compare(gallery.people.labelled(), gallery.people.labelled(generation=generation))


def _fill(
    gallery: Gallery,
    generation: Generation,
    detector_of: DetectorOf,
    run: Callable[[Work], None],
    on_progress: Callable[[Progress], None],
    on_failure: Callable[[str, PersonSearchError], None],
    skip_unreadable: bool,
) -> int:
    """Give a generation every scene that it lacks; returns how many could not be indexed."""
    after = failed = 0
    while lacking := gallery.generations.lacking(generation.id, limit=SCENES_AT_ONCE, after=after):
        done, total = gallery.generations.scenes_in(generation.id)
        after = max(lacking)
        for scene_id in lacking.values():

            def index(scene_id: str = scene_id) -> None:
                pixels = gallery.scenes.picture(scene_id).pixels
                people = find_people(pixels, detector_of(generation.model))
                gallery.generations.add_people(generation.id, scene_id, people)

            try:
                run(index)
            except SceneNotFoundError:
                continue  # removed meanwhile
            except (ImageError, GalleryDamagedError) as error:
                failed += 1
                on_failure(scene_id, error)
                if skip_unreadable:
                    nobody = Detections.empty(generation.model.embedding_dim)
                    gallery.generations.add_people(generation.id, scene_id, nobody)
            else:
                done += 1
            on_progress(Progress(min(done, total), total, failed))
    return failed
