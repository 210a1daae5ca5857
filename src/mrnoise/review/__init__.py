"""A page on this machine to walk through maps, compare two, and measure regions in them."""

from mrnoise.review.folder import Folder
from mrnoise.review.region import Missing, Source
from mrnoise.review.server import ReviewServer

__all__ = ["Folder", "Missing", "ReviewServer", "Source"]
