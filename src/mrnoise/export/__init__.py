"""Maps in the conventions of other programs."""

from mrnoise.export.bids_dataset import bids
from mrnoise.export.dicom_series import dicom, dicom_mr
from mrnoise.export.nordic_series import nordic
from mrnoise.export.pca_series import dwidenoise2, mppca
from mrnoise.export.snraware_input import snraware
from mrnoise.export.xarray_dataset import to_xarray

__all__ = ["bids", "dicom", "dicom_mr", "dwidenoise2", "mppca", "nordic", "snraware", "to_xarray"]
