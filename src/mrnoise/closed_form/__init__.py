"""Closed forms: the noise of SENSE, CG-SENSE (also in single voxels), GRAPPA and gridding; the reference of every g."""

from mrnoise.closed_form.cg_sense import cg_sense_std
from mrnoise.closed_form.grappa import grappa_std
from mrnoise.closed_form.gridding import gridding_std
from mrnoise.closed_form.reconstructions import closed_form_std
from mrnoise.closed_form.sense import combined_std, fully_sampled_std, sense_g_factor, sense_std
from mrnoise.closed_form.voxels import cg_sense_voxel_variance

__all__ = [
    "cg_sense_std",
    "cg_sense_voxel_variance",
    "closed_form_std",
    "combined_std",
    "fully_sampled_std",
    "grappa_std",
    "gridding_std",
    "sense_g_factor",
    "sense_std",
]
