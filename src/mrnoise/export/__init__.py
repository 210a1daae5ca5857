"""Maps in the conventions of other programs."""

from mrnoise.export.bids_dataset import bids
from mrnoise.export.denoisers import dwidenoise2, mppca, nordic, snraware
from mrnoise.export.dicom_series import dicom, dicom_mr

__all__ = ["bids", "dicom", "dicom_mr", "dwidenoise2", "mppca", "nordic", "snraware"]
