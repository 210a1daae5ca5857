"""What a random draw is seeded by."""

from __future__ import annotations

from dataclasses import dataclass

from mrnoise.checks import check_seed

# Code of every use of a seed but the probes of a map, and how many numbers follow it.
USES: dict[str, tuple[int, int]] = {
    "additional": (1, 0),
    "replicas": (2, 0),
    "colouring": (3, 0),
    "noise power": (4, 1),
    "continued": (5, 1),
    "spots": (6, 0),
}


@dataclass(frozen=True)
class Key:
    """Entropy of the noise of one image: probes by their index, and every other use apart from them.

    The words of probe k are (seed, image, k); those of another use are (seed, image, 0, code, numbers…, k), and so on
    for a use within a use. `numpy.random.SeedSequence` pads a short key with zeros, so that (1, 2, 3) and (1, 2, 3, 0)
    are the same: codes are not zero and fix how many numbers follow, so that no padded key is another key.

    Parameters
    ----------
    key
        0 ≤ seed < 2³².
    image
        Which image of a scan.
    path
        What it is used for, made by `of`.

    Raises
    ------
    InputError
        If the seed is no such number.

    Examples
    --------
    >>> Key(7, image=2).words(5)
    (7, 2, 5)
    >>> Key(7, image=2).of("noise power", 3).words(5)
    (7, 2, 0, 4, 3, 5)
    """

    seed: int = 0
    image: int = 0
    path: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_seed(self.seed, below="2³²")

    def of(self, use: str, *numbers: int) -> Key:
        """The key of another use of the same noise, one of `USES`."""
        code, count = USES[use]
        assert len(numbers) == count
        return Key(self.seed, self.image, (*self.path, 0, code, *numbers))

    def words(self, index: int) -> tuple[int, ...]:
        """Entropy of one draw."""
        return (self.seed, self.image, *self.path, index)
