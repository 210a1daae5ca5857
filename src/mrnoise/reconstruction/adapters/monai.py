"""Reconstruction networks of MONAI."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.adapters.common import Adapter, BoundAdapter, check_choice, check_single, checked_output
from mrnoise.reconstruction.adapters.fastmri import phase_encoding_axis
