"""What the map of a volume needs of memory."""

from __future__ import annotations

import math

from mrnoise.checks import check_memory
from mrnoise.linearization import Images

# Copies of one k-space that are held at once: plane by plane its own, the planes and coil maps; of a volume that is one
# problem those of a derivative. And bytes of each voxel of a map while it is put together. Measured: docs/volumes.md.
COPIES_OF_PLANES, COPIES_OF_WHOLE, RESULT_BYTES = 4, 16, 800


def memory_needed(images: Images) -> float:
    """Bytes that mapping a volume takes at its peak, the k-space itself counted.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import caipi
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((24, 20, 16), 4, mask=caipi((24, 20, 16), (2, 2)))
    >>> for method in (CgSense(), CgSense(iterations=10)):  # plane by plane, and as one problem
    ...     print(f"{memory_needed(Images.of(method, scan)) / 2**20:.1f} MiB")
    6.8 MiB
    9.6 MiB
    """
    scan = images.acquisition
    one_volume = scan.kspace.numel() * scan.kspace.element_size() / math.prod(scan.batch_shape)
    copies = COPIES_OF_WHOLE if images.plane_axis is None else COPIES_OF_PLANES
    return copies * one_volume + RESULT_BYTES * math.prod(images.batch_shape) * math.prod(scan.spatial_shape)


def check_fits(images: Images) -> None:
    """Raise `InputError` if a volume will not fit into memory, before anything is mapped."""
    if images.acquisition.spatial_dims != 3:
        return
    remedy = "Map a part of its leading axes, or on a computer with more memory."
    if images.plane_axis is None:
        remedy = "Where an axis was sampled as a whole, a reconstruction with fixed coil maps goes plane by plane."
    check_memory(memory_needed(images), "the map of this volume", remedy)
