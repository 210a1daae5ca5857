"""Maps in the conventions of other programs."""

from mrnoise.export.denoisers import dwidenoise2, mppca, nordic, snraware

__all__ = ["dwidenoise2", "mppca", "nordic", "snraware"]
