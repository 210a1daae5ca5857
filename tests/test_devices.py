"""Every tensor follows the device of the data.

Without a second device at hand, tensors that are made with no word of a device, and are more than a number, are put
on the meta device while the data lies in host memory: whoever lets them meet the data ends in an error.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import mrnoise
from mrnoise.estimators import METHODS
from mrnoise.linearization import Images
from mrnoise.mapping.run import Request, map_images
from mrnoise.measurement import point_spread, roi_std
from mrnoise.reconstruction import CgSense, RootSumOfSquares, Sense, ZeroFilled
from mrnoise.sampling import equispaced, poisson_disc, random_1d
from mrnoise.simulation import simulate

FACTORIES = {
    torch.zeros,
    torch.ones,
    torch.empty,
    torch.full,
    torch.arange,
    torch.eye,
    torch.linspace,
    torch.logspace,
    torch.tensor,
    torch.as_tensor,
    torch.rand,
    torch.randn,
}


class Elsewhere(TorchFunctionMode):
    def __torch_function__(self, function, types, given=(), options=None):
        options = options or {}
        made = function(*given, **options)
        # Random numbers come from generators in host memory, the same on every device.
        told = options.get("device") is not None or options.get("generator") is not None
        if function not in FACTORIES or told or (given and isinstance(given[0], torch.Tensor)) or not made.ndim:
            return made
        return made.to("meta")


SHAPE = (24, 20)
SCANS = {
    "regular": simulate(SHAPE, 4, mask=equispaced(SHAPE, 2)),
    "lines": simulate(SHAPE, 4, mask=random_1d(SHAPE, 2, 6, 0)),
    "scattered": simulate(SHAPE, 4, mask=poisson_disc(SHAPE, 2, 5, 0)),
    "no maps": simulate((32, 28), 4, mask=equispaced((32, 28), 2, calibration=12)).replace(coil_maps=None),
}
CLASSICAL = {"cg-sense": CgSense(1e-2), "zero-filled": ZeroFilled(), "rss": RootSumOfSquares()}


def mapped(reconstruction, scan, method):
    exhaustive = METHODS[method]().exhaustive
    with Elsewhere():
        request = Request.of(method, None if exhaustive else 12, None, None)
        (image,) = map_images(Images.of(reconstruction, scan), request)
    return image


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("reconstruction", CLASSICAL)
@pytest.mark.parametrize("method", ["auto", "sketch", "monte_carlo", "nonlinear", "probe"])
def test_of_methods_and_reconstructions(method, reconstruction, name):
    found = mapped(CLASSICAL[reconstruction], SCANS[name], method)
    assert bool(found.estimate.variance.isfinite().all())


@pytest.mark.parametrize("method", ["lattice", "exact", "closed_form"])
def test_of_what_has_no_sampling_error(method):
    assert bool((mapped(Sense(), SCANS["regular"], method).estimate.variance >= 0).all())


def test_of_spots():
    with Elsewhere():
        request = Request.of("spots", 40, None, None)
        for reconstruction in (CgSense(1e-2), Sense()):
            (image,) = map_images(Images.of(reconstruction, SCANS["regular"]), request)
            assert image.estimate.method == "spots" and bool((image.estimate.variance > 0).any())


@pytest.mark.parametrize("network", ["varnet", "modl", "unet", "n2r"])
def test_of_networks(network):
    found = mapped(mrnoise.networks.pretrained(network), SCANS["no maps"], "auto")
    assert bool(found.estimate.variance.isfinite().all())


def test_of_maps_and_measurements():
    scan, region = SCANS["lines"], torch.zeros(SHAPE, dtype=torch.bool)
    region[8:16, 6:14] = True
    with Elsewhere():
        # What is computed before the map is taken to host memory, its reference too.
        assert mrnoise.closed_form.fully_sampled_std(scan).device.type == "cpu"
        assert roi_std(CgSense(1e-2), scan, region) > 0
        assert point_spread(CgSense(1e-2), scan, (12, 10)).contrast_recovery > 0


def test_this_would_tell():
    scan = SCANS["lines"]

    def forgetful(kspace):
        return torch.fft.ifft2(kspace * torch.ones(SHAPE)).sum(-3)

    with Elsewhere(), pytest.raises((RuntimeError, mrnoise.InputError)):
        mrnoise.noise_map(forgetful, scan, n_samples=8)
