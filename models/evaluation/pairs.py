"""Counts the pairs of boxes in different scenes: of the same person, of different people."""

import numpy as np
from numpy.typing import NDArray


class PairCounts:
    """Counts the pairs of boxes that stand in different scenes.

    Args:
        who: [N] int64, which person each box shows, 0 or more.
        scene: [N] int64, where.

    Attributes:
        people: how many there are at most: the largest of who, and one.
        impostor: pairs of different people.
        genuine: pairs of one person.
    """

    def __init__(self, who: NDArray[np.int64], scene: NDArray[np.int64]) -> None:
        self.people = int(who.max(initial=-1)) + 1
        (self._scene, self._person), self._size = np.unique(
            np.stack([np.unique(scene, return_inverse=True)[1], who]), axis=1, return_counts=True
        )
        self.impostor = self.weighted(np.ones(self.people, np.int64))
        of_one = (np.bincount(who) ** 2).sum() - (self._size**2).sum()
        self.genuine = int(of_one) // 2

    def weighted(self, weights: NDArray[np.int64]) -> int:
        """The number of pairs of different people if each person counts this often [P]."""
        there = weights[self._person] * self._size
        by_person = np.bincount(self._person, there)
        by_scene = np.bincount(self._scene, there)
        everywhere = by_person.sum() ** 2 - (by_person**2).sum()
        within = (by_scene**2).sum() - (there**2).sum()
        return int(everywhere - within) // 2
