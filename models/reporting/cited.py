"""Figures that others published, each with who says so.

All are search mAP and top-1 accuracy in percent, on the test sets of CUHK-SYSU (galleries of 100
scenes) and PRW. A figure that could not be found is None: nothing here is estimated.
"""

from dataclasses import dataclass

CUHK_SYSU = "CUHK-SYSU"
PRW = "PRW"
GALLERY_SIZE = 100
"""Scenes in a gallery of CUHK-SYSU where a size is not told."""

NAE_PAPER = "Chen et al., Norm-Aware Embedding for Efficient Person Search, CVPR 2020"

SOURCES = {
    "qeeps": "the README of the QEEPS authors' code, "
    "<https://github.com/munjalbharti/Query-guided-End-to-End-Person-Search>",
    "stcsp": "Jiang and Wang, Spatiotemporal Consensus with Scene Prior for Unsupervised Domain "
    "Adaptive Person Search, table 1",
    "deep-person-search": "<https://github.com/deepalchemist/deep-person-search/issues/3>, "
    "which repeats the paper's figures",
    "qeeps-6": "<https://github.com/munjalbharti/Query-guided-End-to-End-Person-Search/issues/6>",
    "nae4ps-17": "<https://github.com/dichen-cd/NAE4PS/issues/17>",
}
"""What was read when the figures below were checked."""


@dataclass(frozen=True)
class Figures:
    """What is said of one method on one dataset.

    Attributes:
        map, top_1: in percent.
        checked: the key of SOURCES that the figures were compared with; None: cited from the
            literature, not compared with a source.
    """

    map: float
    top_1: float
    checked: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Cited:
    """One row of the comparison: a method, and its figures by dataset."""

    method: str
    kind: str
    by: str
    figures: dict[str, Figures]


ONE_STEP, TWO_STEP, NORM_AWARE = "one step", "two steps", "norm-aware"
RETRAINED = "retrained by others"

CITED = (
    Cited(
        "OIM",
        ONE_STEP,
        "Xiao et al., CVPR 2017",
        {
            CUHK_SYSU: Figures(75.5, 78.7, "stcsp"),
            PRW: Figures(
                21.3, 49.9, None, "the table of Jiang and Wang has this mAP, but a top-1 of 49.4"
            ),
        },
    ),
    Cited(
        "OIM, input of 900 pixels",
        ONE_STEP,
        "Munjal et al., CVPR 2019",
        {CUHK_SYSU: Figures(83.3, 84.2, "qeeps-6")},
    ),
    Cited(
        "IAN",
        ONE_STEP,
        "Xiao et al., Pattern Recognition 2019",
        {CUHK_SYSU: Figures(76.3, 80.1, "stcsp"), PRW: Figures(23.0, 61.9, "stcsp")},
    ),
    Cited(
        "NPSM",
        ONE_STEP,
        "Liu et al., ICCV 2017",
        {CUHK_SYSU: Figures(77.9, 81.2, "stcsp"), PRW: Figures(24.2, 53.1, "stcsp")},
    ),
    Cited("RCAA", ONE_STEP, "Chang et al., ECCV 2018", {CUHK_SYSU: Figures(79.3, 81.3, "stcsp")}),
    Cited(
        "CTXGraph",
        ONE_STEP,
        "Yan et al., CVPR 2019",
        {CUHK_SYSU: Figures(84.1, 86.5, "stcsp"), PRW: Figures(33.4, 73.6, "stcsp")},
    ),
    Cited(
        "QEEPS",
        ONE_STEP,
        "Munjal et al., CVPR 2019",
        {CUHK_SYSU: Figures(88.9, 89.1, "qeeps"), PRW: Figures(37.1, 76.7, "qeeps")},
    ),
    Cited("DPM+IDE", TWO_STEP, "Zheng et al., CVPR 2017", {PRW: Figures(20.5, 48.3)}),
    Cited(
        "CNN+MGTS",
        TWO_STEP,
        "Chen et al., ECCV 2018",
        {CUHK_SYSU: Figures(83.0, 83.7, "qeeps"), PRW: Figures(32.6, 72.1, "qeeps")},
    ),
    Cited(
        "CNN+CLSA",
        TWO_STEP,
        "Lan et al., ECCV 2018",
        {CUHK_SYSU: Figures(87.2, 88.5), PRW: Figures(38.7, 65.0)},
    ),
    Cited(
        "FPN+RDLR",
        TWO_STEP,
        "Han et al., ICCV 2019",
        {CUHK_SYSU: Figures(93.0, 94.2), PRW: Figures(42.9, 70.2)},
    ),
    Cited(
        "NAE",
        NORM_AWARE,
        "Chen et al., CVPR 2020",
        {CUHK_SYSU: Figures(91.5, 92.4), PRW: Figures(43.3, 80.9, "deep-person-search")},
    ),
    Cited(
        "NAE+",
        NORM_AWARE,
        "Chen et al., CVPR 2020",
        {CUHK_SYSU: Figures(92.1, 92.9, "stcsp"), PRW: Figures(44.0, 81.1, "stcsp")},
    ),
    Cited(
        "NAE, with the authors' code",
        RETRAINED,
        "a reader of that code",
        {CUHK_SYSU: Figures(91.9, 93.0, "nae4ps-17")},
    ),
    Cited(
        "NAE+, with the authors' code",
        RETRAINED,
        "the same reader",
        {CUHK_SYSU: Figures(90.4, 90.7, "nae4ps-17")},
    ),
)

PUBLISHED_OF_HEAD = {"oim": "OIM", "nae": "NAE", "nae_plus": "NAE+"}
"""Which cited method a head of ours is."""
RANKED_BY_COSINE = ("oim",)
"""Heads whose published figures are without class-weighted similarity."""


def published(head: str, dataset: str) -> Figures | None:
    """What is published of one of our heads on CUHK-SYSU or PRW, if anything."""
    for row in CITED:
        if row.method == PUBLISHED_OF_HEAD.get(head):
            return row.figures.get(dataset)
    return None
