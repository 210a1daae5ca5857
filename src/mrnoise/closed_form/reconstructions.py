"""Which reconstructions have noise in closed form."""

from __future__ import annotations

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.closed_form.cg_sense import cg_sense_std
from mrnoise.closed_form.grappa import grappa_std
from mrnoise.closed_form.gridding import gridding_std
from mrnoise.closed_form.sense import sense_std
from mrnoise.errors import InputError
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.grappa import Grappa, GrappaOfPlane
from mrnoise.reconstruction.gridding import Gridding
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.reconstruction.sense import Sense


def closed_form_std(reconstruction: Reconstruction, acquisition: Acquisition, most_voxels: int | None = None) -> Tensor:
    """σ of `Sense`, `CgSense`, `Grappa` or `Gridding` by `sense_std`, `cg_sense_std`, `grappa_std` or `gridding_std`.

    Parameters
    ----------
    reconstruction
        One of these.
    acquisition
        As the function of that reconstruction takes it.
    most_voxels
        Of a dense factorization; ``None``: what fits into memory.

    Returns
    -------
    Tensor
        Total complex standard deviation, of a real image that of its values; image-shaped, float64.

    Raises
    ------
    InputError
        If the reconstruction is another, a class derived from these included, or the scan has no closed form.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> [round(float(closed_form_std(method, scan)[8, 6]), 3) for method in (Sense(), CgSense(1e-2))]
    [0.052, 0.047]
    """
    if type(reconstruction) is Sense:
        return sense_std(acquisition, reconstruction.regularization)
    if type(reconstruction) is CgSense and reconstruction.iterations is None:
        return cg_sense_std(acquisition, reconstruction.regularization, most_voxels)
    if isinstance(reconstruction, Grappa) and type(reconstruction) in (Grappa, GrappaOfPlane):
        return grappa_std(reconstruction, acquisition)
    if type(reconstruction) is Gridding:
        return gridding_std(acquisition)
    raise InputError(
        "there is no closed form of this noise",
        expected="mrnoise.reconstruction.Sense, CgSense to convergence, Grappa, or Gridding",
        received=reconstruction.title,
        remedy='Use method="auto", or "lattice", which is exact for linear reconstructions.',
    )
