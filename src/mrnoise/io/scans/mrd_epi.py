"""Echo-planar lines that were sampled on the ramps of their gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_file import MrdFile


@dataclass(frozen=True, eq=False)
class RampSampling:
    """Where the samples of a line lie, and how they become samples of the grid.

    Parameters
    ----------
    positions
        (sample,): k in steps of the grid, of a line that is not reversed, 0 in the centre.
    size
        Samples n of the grid, its centre at n // 2.
    """

    positions: np.ndarray
    size: int

    def operator(self, reverse: bool, first: int, behind: int) -> np.ndarray:
        """Least squares from samples ``first`` to ``behind`` of a line that was turned round to the grid, real.

        A band-limited line has y(k) = Σ_g sinc(k − g) x_g. The g go one step further than the samples, whose outermost
        would otherwise be taken for others. Rows without a sample within half a step are zero.
        """
        k = (-self.positions[::-1] if reverse else self.positions)[first:behind]
        half = self.size // 2
        grid = np.arange(-half - 1, self.size - half + 1)
        distance = np.abs(k[:, None] - grid).min(0, initial=np.inf)
        near = distance <= 1
        found = np.zeros((len(grid), len(k)))
        found[near] = np.linalg.pinv(np.sinc(k[:, None] - grid[near]))
        found[distance > 0.5] = 0
        return found[1:-1]


def ramp_sampling(file: MrdFile, lines: np.ndarray) -> RampSampling | None:
    r"""Sampling of these lines by the trapezoid in the header; ``None`` without one, or where they lie on its flat top.

    Sample j averages over one dwell time T around t_j = delay + (j + ½) T. With the gradient G(t) of height 1

        k_j = s (∫₀^{t_j} G − ½ ∫ G),   s = n / ∫_readout G

    so that the readout covers the encoded matrix n, and k = 0 is passed in the middle of the gradient. The delay
    (``acqDelayTime``) is that of the header where it fits, else the readout is in the middle.

    Raises
    ------
    InputError
        If the readout is longer than the gradient, or has fewer samples than the grid.
    """
    encoding = file.encoding(lines)
    timing = encoding.trajectoryDescription
    up = timing.get("rampUpTime", 0.0)
    down, flat = timing.get("rampDownTime", up), timing.get("flatTopTime", 0.0)
    if encoding.trajectory != "epi" or min(up, down) <= 0:
        return None
    counts = np.unique(file.heads["number_of_samples"][lines])
    dwell, n, total = file.dwell_us(lines) or timing.get("dwellTime", 0.0), int(counts[-1]), up + flat + down
    size, length = encoding.encodedSpace.matrixSize.x, n * dwell
    delay = timing.get("acqDelayTime", -1.0)
    if not 0 <= delay <= total - length:
        delay = (total - length) / 2
    if length > 0 and delay >= up and delay + length <= up + flat:
        return None
    if len(counts) > 1 or not 0 < length <= total or flat < 0 or n <= size:
        raise InputError(
            f"the readout of {file.path.name} does not fit the trapezoid of its header",
            expected=f"more samples than the matrix of {size}, in the {total:g} µs of the gradient",
            received=f"{counts.tolist()} samples of {dwell:g} µs",
            remedy="Check trajectoryDescription, encoded matrix and sample_time_us, or regrid the data first.",
        )

    def area(time: np.ndarray) -> np.ndarray:
        rising, falling = np.minimum(time, up), np.maximum(time - up - flat, 0)
        return rising**2 / (2 * up) + np.clip(time - up, 0, flat) + falling - falling**2 / (2 * down)

    start, end, middle = area(np.array([delay, delay + length, total]))
    k = area(delay + (np.arange(n) + 0.5) * dwell) - middle / 2
    return RampSampling(size * k / (end - start), size)
