"""Commands of other programs that read and write arrays of BART."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.files.cfl import COIL, DIMENSIONS, SPATIAL, SUFFIXES, read_cfl, write_cfl
from mrnoise.files.text import printable
from mrnoise.reconstruction.adapters.black_box import BoundOutsideTorch, OutsideTorch
from mrnoise.sampling.trajectory import Trajectory

PLACEHOLDERS = ("kspace", "sens", "pattern", "trajectory", "output")
PLACEHOLDER = re.compile(r"\{(\w*)(?::([^{}]*))?\}")
# Of a terminal.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# BART's dimensions of the readouts and of their samples.
READOUT, SAMPLE = 2, 1
# Names of leading axes that BART has a dimension for.
JOINT = tuple(name for name in DIMENSIONS[COIL + 1 :] if name)


@dataclass(frozen=True, repr=False)
class CommandLine(OutsideTorch):
    """A command that reads k-space from files of BART (.cfl, .hdr) and writes an image into others.

    It is run once for each image and for each replica, without a shell, in the current folder; its files, in single
    precision, lie in a temporary folder. It has one thread unless ``OMP_NUM_THREADS`` is set: with several, BART grids
    in any order, and the same samples along a trajectory give images that differ. Whether it is linear is found out as
    for a `BlackBox`.

    Parameters
    ----------
    command
        Words, with placeholders that become names of files without suffix: ``{kspace}``; ``{sens}``, coil maps;
        ``{pattern}``, 1 where samples were acquired; ``{trajectory}``, coordinates x, y, z in cycles per field of view;
        ``{output}``, which comes last if it is left out. ``{kspace:frame}``: with all frames of a series, dimension 10
        of BART, as the image then has; likewise echo, phase, slice and average, or several of them with commas.
    unit_gain
        Whether the image has the intensity of the SENSE image; else there is no g-factor. BART scales images by what
        it finds in the data unless it is told otherwise (``-S``, or ``-w 1``).
    whitened, differentiate_coil_maps
        As for `OutsideTorch`.

    Raises
    ------
    InputError
        If the placeholders are not those; on `bind`, if the scan has no trajectory for them; of an image, if the
        command cannot be run, fails, or writes something else.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> CommandLine("bart pics -S -l2 -r 0.01 {kspace} {sens}").bind(simulate((16, 12), 4))
    CommandLine('bart pics -S -l2 -r 0.01 {kspace} {sens}'), bound to k-space (4, 16, 12)
    """

    command: str
    unit_gain: bool = False

    def __post_init__(self) -> None:
        words_of(self.command)

    @property
    def called(self) -> str:
        """The command."""
        return repr(self.command)

    @property
    def joint(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the leading axes that its files hold whole."""
        axes = next(axes for name, axes in PLACEHOLDER.findall(self.command) if name == "kspace")
        return tuple(axes.split(",")) if axes else ()

    @property
    def needs_coil_maps(self) -> bool:  # type: ignore[override]
        """Whether it is given some."""
        return "{sens}" in self.command

    @property
    def estimates_coil_maps(self) -> bool:  # type: ignore[override]
        """Whether it has its own."""
        return not self.needs_coil_maps

    def bind(self, acquisition: Acquisition) -> BoundCommandLine:
        """Return kspace (joint axes, coil, k1, k0) or (joint axes, coil, *samples) → image (joint axes, y, x)."""
        trajectory = acquisition.trajectory if "{trajectory}" in self.command else None
        maps = self.fixed_maps(acquisition) if self.needs_coil_maps else None
        return BoundCommandLine(self, acquisition, maps, trajectory)


@dataclass(frozen=True, eq=False, repr=False)
class BoundCommandLine(BoundOutsideTorch):
    """`CommandLine` of one scan.

    Parameters
    ----------
    trajectory
        Where that is asked for.
    """

    method: CommandLine
    trajectory: Trajectory | None

    def image(self, kspace: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """What the command writes."""
        scan, command = self.acquisition, self.method.command
        joint = [DIMENSIONS.index(axis) for axis in scan.axes]
        space = list(range(scan.spatial_dims - 1, -1, -1))
        samples = space
        if isinstance(scan.sampling, Trajectory):
            kspace, samples = in_readouts(kspace, scan.sampling), [READOUT, SAMPLE]
        arrays = {"kspace": in_bart(kspace, [*joint, COIL, *samples])}
        if maps is not None:
            arrays["sens"] = in_bart(maps, [*joint[: maps.ndim - 1 - len(space)], COIL, *space])
        if "{pattern}" in command:
            mask = scan.mask.cpu().numpy()
            arrays["pattern"] = in_bart(mask, [*joint[: mask.ndim - len(space)], *space])
        if self.trajectory is not None:
            arrays["trajectory"] = coordinates_in_bart(self.trajectory)
        shape = kspace.shape[: len(joint)] + scan.spatial_shape
        return from_bart(run(command, arrays), [*joint, *space], shape, command)


def words_of(command: str) -> list[str]:
    """The words of a command, the output among them.

    Raises
    ------
    InputError
        If quotes do not match or the placeholders are not those of `CommandLine`.

    Examples
    --------
    >>> words_of("bart pics {kspace} '{sens}'")
    ['bart', 'pics', '{kspace}', '{sens}', '{output}']
    """
    found = PLACEHOLDER.findall(command)
    names = [name for name, _ in found]
    joint = [axis for _, axes in found if axes for axis in axes.split(",")]
    wrong = [name for name in names if name not in PLACEHOLDERS]
    wrong += [axis for axis in joint if axis not in JOINT]
    try:
        words = shlex.split(command)
    except ValueError as error:
        words, wrong = [], [*wrong, str(error)]
    if wrong or "kspace" not in names or any(axes and name != "kspace" for name, axes in found):
        raise InputError(
            "the placeholders of a command are not known",
            expected=f"{{kspace}}, and {', '.join('{' + name + '}' for name in PLACEHOLDERS[1:])} where they are "
            f"wanted; {{kspace:AXIS}} with AXIS of {', '.join(JOINT)}",
            received=", ".join(wrong) or command,
            remedy='For example "bart pics -S -l2 -r 0.01 {kspace} {sens}".',
        )
    return words if "output" in names else [*words, "{output}"]


def run(command: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Run a command on arrays, by their placeholders, and read what it writes; both in the order of BART.

    Raises
    ------
    InputError
        If it cannot be run, fails, or writes no array.
    """
    with tempfile.TemporaryDirectory(prefix="mrnoise-") as folder:
        for name, values in arrays.items():
            write_cfl(Path(folder) / name, values)
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        words = [PLACEHOLDER.sub(lambda found: os.path.join(folder, found[1]), word) for word in words_of(command)]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
        except OSError as error:
            raise InputError(
                f"cannot run {printable(words[0])}",
                expected="a program that is installed, by its name or path",
                received=f"{error.strerror} for {printable(command)}",
                remedy="Install it (BART: apt install bart), or give its whole path.",
            ) from error
        if done.returncode != 0 or not os.path.isfile(os.path.join(folder, "output" + SUFFIXES[0])):
            ends = "ends without an image" if done.returncode == 0 else f"fails with exit status {done.returncode}"
            raise InputError(
                "the command " + ends,
                expected="an array of BART in {output}, and exit status 0",
                received=f"{last_words(done.stderr) or last_words(done.stdout) or 'no word'} from {printable(command)}",
                remedy="Run it on files of your own in a shell, to see more.",
            )
        return read_cfl(Path(folder) / "output")


def last_words(output: bytes) -> str:
    """The last lines that were printed, those of a few."""
    plain = COLOURS.sub("", output.decode(errors="replace"))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return printable(" / ".join(lines[-3:]))[-300:]


def in_bart(values: np.ndarray, dimensions: Sequence[int]) -> np.ndarray:
    """An array with its axes at these dimensions of BART.

    Examples
    --------
    >>> in_bart(np.ones((8, 5, 4)), [3, 1, 0]).shape[:5]
    (4, 5, 1, 8, 1)
    """
    shape = [1] * len(DIMENSIONS)
    for size, dimension in zip(values.shape, dimensions, strict=True):
        shape[dimension] = size
    return values.transpose(np.argsort(dimensions)).reshape(shape)


def from_bart(values: np.ndarray, dimensions: Sequence[int], shape: tuple[int, ...], command: str) -> np.ndarray:
    """The inverse for an image of this shape, which has to be all that is there."""
    expected = in_bart(np.empty(shape, np.int8), dimensions).shape
    if values.shape != expected:
        raise InputError(
            "the command writes something else than an image",
            expected=f"the matrix of the scan, dimensions {_described(expected)}",
            received=f"{_described(values.shape)} from {printable(command)}",
            remedy="Combine coils and sets of maps; crop nothing. A series that it needs whole is {kspace:frame}.",
        )
    rest = [i for i in range(len(DIMENSIONS)) if i not in dimensions]
    return values.transpose([*dimensions, *rest]).reshape(shape)


def _described(shape: Sequence[int]) -> str:
    """All dimensions but the last ones that are 1."""
    last = max((i for i, size in enumerate(shape) if size > 1), default=0)
    return " × ".join(map(str, shape[: max(last + 1, SPATIAL)]))


def in_readouts(samples: np.ndarray, trajectory: Trajectory) -> np.ndarray:
    """(..., *samples) as (..., readout, sample)."""
    n = trajectory.sample_ndim
    return samples.reshape(*samples.shape[:-n], -1, samples.shape[-1])


def coordinates_in_bart(trajectory: Trajectory) -> np.ndarray:
    """Coordinates x, y, z along dimension 0, samples and readouts along 1 and 2; z = 0 in a plane.

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> coordinates_in_bart(radial((16, 12), n_spokes=5)).shape[:3]
    (3, 32, 5)
    """
    zyx = in_readouts(trajectory.coordinates.cpu().numpy(), trajectory)
    flat = np.zeros_like(zyx, shape=(SPATIAL - len(zyx), *zyx.shape[1:]))
    return in_bart(np.concatenate([zyx[::-1], flat]), [0, READOUT, SAMPLE])
