import math

import numpy as np
import pytest

from models.errors import CalibrationError
from models.evaluation.bootstrap import percentiles, resamples
from models.evaluation.calibration import (
    Calibration,
    ScoreCounts,
    calibrate,
    require_pairs,
    threshold,
    wilson,
)


def people(count, boxes, *, scenes=12, dim=8, seed=0, spread=1.0):
    """Embeddings, detection scores, labels and scenes of people who look a little alike."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((count, dim))
    who = np.repeat(np.arange(count), boxes)
    vectors = centres[who] + spread * random.standard_normal((len(who), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (
        vectors.astype(np.float32),
        random.uniform(0.5, 1, len(who)).astype(np.float32),
        [f"person-{person:03}" for person in who],
        random.integers(0, scenes, len(who)),
    )


def obvious(embeddings, scores, labels, scenes):
    """Impostor and genuine scores, each with whose they are, by a double loop."""
    impostor, genuine = [], []
    for query in range(len(labels)):
        for stored in range(len(labels)):
            if scenes[query] == scenes[stored]:
                continue
            cosine = embeddings[query].astype(float) @ embeddings[stored].astype(float)
            score = round(float(scores[stored]) * cosine, 6)
            if labels[query] == labels[stored]:
                genuine.append(score)
            else:
                impostor.append((score, labels[query], labels[stored]))
    return impostor, np.array(genuine)


def counted(scores):
    counts = ScoreCounts()
    counts.add(np.array(scores))
    return counts.reaching()


def test_pairs_and_rates_are_those_of_comparing_everybody_with_everybody():
    crowd = people(22, 4)
    made = calibrate(*crowd, targets=[0.02, 0.1])
    impostor, genuine = obvious(*crowd)
    scores = np.array([one[0] for one in impostor])

    assert (made.people, made.detections) == (22, 88)
    assert (2 * made.impostor_pairs, 2 * made.genuine_pairs) == (len(scores), len(genuine))
    assert [one.target for one in made.thresholds] == [0.1, 0.02]
    for row in made.table:
        assert row.fmr.value == pytest.approx(np.mean(scores >= row.score), abs=1e-12)
        assert row.fnmr.value == pytest.approx(np.mean(genuine < row.score), abs=1e-12)
        assert (row.fmr.low, row.fmr.high) == wilson(row.fmr.value, len(scores) / 2)
    for one in made.thresholds:
        assert np.mean(scores >= one.score) <= one.target < np.mean(scores >= one.score - 1.5e-6)
        assert one.fmr.value == np.mean(scores >= one.score)
        assert one.fnmr.value == pytest.approx(np.mean(genuine < one.score), abs=1e-12)


def test_the_interval_of_people_is_that_of_drawing_people_anew():
    crowd = people(20, 3, seed=4)
    (one,) = calibrate(*crowd, targets=[0.1]).thresholds
    impostor, _ = obvious(*crowd)
    names = sorted(set(crowd[2]))
    first, second = (np.array([names.index(pair[place]) for pair in impostor]) for place in (1, 2))
    above = np.array([pair[0] for pair in impostor]) >= one.score
    rates = []
    for weights in resamples(20):
        drawn = weights[first] * weights[second]
        rates.append((drawn * above).sum() / drawn.sum())

    assert (one.fmr_of_people.low, one.fmr_of_people.high) == pytest.approx(
        percentiles(np.array(rates)), abs=1e-12
    )


def test_people_of_one_scene_are_not_compared():
    embeddings, scores, labels, _ = people(20, 2)
    scenes = np.arange(40) // 2  # both boxes of each person in one scene of their own
    made = calibrate(embeddings, scores, labels, scenes, targets=[0.05])

    assert made.genuine_pairs == 0
    assert made.impostor_pairs == 20 * 19 // 2 * 4
    assert {row.fnmr for row in made.table} == {made.thresholds[0].fnmr} == {None}
    assert Calibration.from_json(made.as_json()) == made


def test_the_rate_of_a_hit_is_that_of_the_row_below_it_and_never_too_good_to_be_known():
    made = calibrate(*people(30, 4))
    rows = made.table

    assert rows[0].score == -1
    assert made.fmr(-1) == rows[0].fmr.value == 1
    assert made.fmr(1.0) == 3 / made.impostor_pairs
    for row in rows[:-1]:
        assert made.fmr(row.score) == made.fmr(row.score + 4e-7) >= row.fmr.value
    middle = rows[len(rows) // 4]
    assert made.fmr(middle.score, tries=3) == min(1, 3 * middle.fmr.value)
    for score in np.linspace(-1, 1, 41):
        assert made.fmr(score) >= made.fmr(score + 0.05)


def test_every_score_from_a_rate_s_own_on_keeps_that_rate():
    made = calibrate(*people(40, 4))
    for rate in (0.3, 0.01, made.least_target):
        score = made.score_at(rate)
        assert made.fmr(score) <= rate
        assert made.fmr(score - 1.5e-6) > rate
    assert made.score_at(0.01) == made.thresholds[0].score
    assert made.fmr(made.score_at(0.03, tries=2), tries=2) <= 0.03


def test_without_targets_those_are_taken_that_the_pairs_can_support():
    few, some, many = people(25, 2, scenes=1000), people(40, 3), people(60, 5)

    assert [one.target for one in calibrate(*some).thresholds] == [0.01]
    assert [one.target for one in calibrate(*many).thresholds] == [0.01, 0.001]
    with pytest.raises(CalibrationError, match=r"rate of 0\.01 takes 3,000 .* \(30 / rate"):
        calibrate(*few)
    with pytest.raises(CalibrationError, match=r"1e-05 takes 3,000,000"):
        calibrate(*many, targets=[0.01, 1e-5])
    with pytest.raises(CalibrationError, match=r"0\.0005 takes"):
        calibrate(*many).score_at(0.001, tries=2)


def test_a_rate_takes_thirty_false_pairs():
    require_pairs(3000, 0.01)
    with pytest.raises(CalibrationError, match="rule of 30") as refused:
        require_pairs(2999, 0.01)

    assert refused.value.limits == {"least_impostor_pairs": 3000, "impostor_pairs": 2999}


def test_few_people_are_refused():
    with pytest.raises(CalibrationError, match="20 or more labelled people"):
        calibrate(*people(19, 30))


def test_scores_are_counted_exactly():
    scores = [-1, -1, 0, 0.000001, 0.5, 0.5, 0.5, 1]
    reached = counted(scores)

    for score in (-1, -0.999999, 0, 0.000001, 0.000002, 0.5, 0.500001, 1):
        assert reached[round((score + 1) * 1e6)] == sum(one >= score for one in scores), score
    assert reached[-1] == 0


def test_wilson_s_interval_is_the_textbook_s():
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for count, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(count / total, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson(1, 20)[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", [1e-2, 1e-3])
def test_the_interval_at_a_threshold_covers_the_true_rate(target):
    # Impostors score as a normal deviate does, so that the true rate at any score is known.
    runs, covered, at_a_score, nobody = 200, 0, 0, counted([])
    pairs = int(30 / target)
    for seed in range(runs):
        random = np.random.default_rng(seed)
        scores = np.clip(random.normal(0, 0.2, pairs), -1, 1)
        reached = counted(np.repeat(scores, 2))  # a pair is compared both ways
        one = threshold(reached, nobody, target)
        covered += one.fmr.low <= true_rate(one.score) <= one.fmr.high
        low, high = wilson(np.mean(np.round(scores, 6) >= 0.4), pairs)
        at_a_score += low <= true_rate(0.4) <= high

    assert covered >= 0.93 * runs
    assert at_a_score >= 0.93 * runs


@pytest.mark.slow
def test_where_people_are_in_many_pairs_the_interval_of_people_covers_the_true_rate():
    vectors = people(2000, 1, spread=0.6, seed=10**6)[0]
    others = (vectors @ vectors.T)[np.triu_indices(2000, 1)]
    runs, by_pairs, by_people = 20, 0, 0
    for seed in range(runs):
        embeddings, _, labels, _ = people(40, 6, spread=0.6, seed=seed)
        made = calibrate(
            embeddings, np.ones(240, np.float32), labels, np.arange(240), targets=[0.01]
        )
        (one,) = made.thresholds
        true = np.mean(others >= one.score)
        by_pairs += one.fmr.low <= true <= one.fmr.high
        by_people += one.fmr_of_people.low <= true <= one.fmr_of_people.high

    assert by_people >= 0.93 * runs
    assert by_pairs < 0.8 * runs


def true_rate(score):
    """How many of normal deviates of spread 0.2 reach a score, after rounding to 6 decimals."""
    return 0.5 * math.erfc((score - 5e-7) / 0.2 / math.sqrt(2))


def test_of_too_many_boxes_whole_people_are_drawn_the_same_each_time(monkeypatch):
    crowd = people(50, 4)
    every = calibrate(*crowd, targets=[0.05])
    monkeypatch.setattr("models.evaluation.calibration.MOST_BOXES", 101)
    some, again = calibrate(*crowd, targets=[0.05]), calibrate(*crowd, targets=[0.05])
    monkeypatch.setattr("models.evaluation.calibration.MOST_BOXES", 5)
    least = calibrate(*crowd, targets=[0.05])

    assert (every.people, every.detections) == (50, 200)
    assert (some.people, some.detections) == (25, 100)
    assert some == again != every
    assert least.people == 20, "never fewer people than are needed"
