"""What was encoded: R, g and σ of a scan with never-encoded k-space are those of the same scan on its own matrix."""

import h5py
import numpy as np
import pytest
import torch

import mrnoise
from mrnoise import Acquisition, InputError, noise_map
from mrnoise.cli.scan import Undersampling
from mrnoise.foreground import foreground
from mrnoise.fourier import to_kspace
from mrnoise.io.scans.npz import write_npz
from mrnoise.linearization import image_of
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import Grid, encoded_extent, equispaced, poisson_disc, random_1d
from mrnoise.simulation import simulate

MATRIX = (64, 56)
FULL = simulate(MATRIX, 6, snr=40, seed=1)
EVERYTHING = torch.ones(MATRIX, dtype=torch.bool)


def lines(first, behind, spacing=1, axis=0):
    mask = torch.zeros(MATRIX, dtype=torch.bool)
    mask.movedim(axis, 0)[first:behind:spacing] = True
    return mask


def disc(shape=MATRIX, squared=1.0):
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    return y[:, None].square() + x.square() <= squared


def scan(mask, full=FULL):
    """As it is read: zeros say what was not acquired."""
    return Acquisition(full.kspace * mask, full.noise_covariance, coil_maps=full.coil_maps)


# -- what is found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (lines(12, 52), lines(12, 52)),  # padding, or phase resolution
        (lines(12, 52, 2), lines(12, 51)),  # from the first to the last line
        (lines(24, 64), lines(24, 64)),  # partial Fourier
        (lines(24, 64, 3), lines(24, 64)),
        (lines(24, 64, 2), lines(24, 63)),  # nothing is extrapolated beyond the last line
        (lines(1, 40, 4), lines(1, 38)),
        (lines(14, 56, axis=1), lines(14, 56, axis=1)),  # an asymmetric echo
        (lines(12, 52) & lines(14, 56, axis=1), lines(12, 52) & lines(14, 56, axis=1)),
        (lines(12, 52, 4) | lines(26, 38), lines(12, 49)),  # with calibration lines
    ],
)
def test_along_lines(mask, expected):
    assert torch.equal(encoded_extent(mask), expected)


@pytest.mark.parametrize(
    "mask",
    [
        *(equispaced(MATRIX, r, offset=o) for r in (1, 2, 3, 5) for o in range(r)),
        equispaced(MATRIX, 4, 12),
        *(random_1d(MATRIX, 4, 8, seed) for seed in range(4)),
        *(poisson_disc(MATRIX, r, 8, 0) for r in (2, 4, 8)),
    ],
)
def test_undersampling_is_not_taken_for_an_edge(mask):
    assert bool(encoded_extent(mask).all())


def test_corners_left_out():
    inside = disc((48, 40))
    found = encoded_extent(inside)
    assert bool((found >= inside).all()) and float((found ^ inside).double().mean()) < 0.03
    volume = inside[..., None].expand(48, 40, 6)
    assert torch.equal(encoded_extent(volume, 3), found[..., None].expand(48, 40, 6))
    undersampled = inside.clone()
    undersampled[1::2] = False
    assert float((encoded_extent(undersampled) ^ inside).double().mean()) < 0.05


def test_of_random_lines_the_header_tells():
    mask = torch.zeros(MATRIX, dtype=torch.bool)
    mask[12:52] = random_1d((40, 56), 3, 8, 0)
    assert bool(encoded_extent(mask).all())
    assert torch.equal(encoded_extent(mask, limits=((12, 52), None)), lines(12, 52))


def test_over_all_images():
    """Frames that interleave are one scan."""
    frames = torch.stack([lines(12, 52, 4), lines(14, 52, 4)])
    assert torch.equal(encoded_extent(frames), lines(12, 51))


def test_an_image_that_ends_before_the_others_has_an_extent_of_its_own():
    """An asymmetric echo beside a whole one had 3 times its σ: beyond its end everything was extrapolated."""
    echoes = torch.stack([EVERYTHING, lines(14, 56, axis=1)])
    assert torch.equal(encoded_extent(echoes), echoes)
    interrupted = torch.stack([lines(12, 52), lines(12, 30)])
    assert torch.equal(encoded_extent(interrupted), interrupted)
    ellipses = torch.stack([disc(), disc(squared=0.7)])
    assert torch.equal(encoded_extent(ellipses), ellipses)
    # Nothing of its own: interleaved partial Fourier, chance, an image that is not there.
    interleaved = torch.stack([lines(24 + first, 64, 4) for first in range(4)])
    assert torch.equal(encoded_extent(interleaved), lines(24, 64))
    for draw in (poisson_disc, random_1d):
        assert bool(encoded_extent(torch.stack([draw(MATRIX, 4, seed=seed) for seed in range(3)])).all())
    assert torch.equal(encoded_extent(torch.stack([lines(12, 52), ~EVERYTHING])), lines(12, 52))


def test_of_no_samples_nothing_is_said():
    assert bool(encoded_extent(torch.zeros(MATRIX, dtype=torch.bool)).all())


def test_samples_outside_are_refused():
    with pytest.raises(InputError, match="samples lie outside"):
        Grid(EVERYTHING, extent=lines(12, 52))
    assert Grid(EVERYTHING, extent=EVERYTHING).extent is None


# -- what is made of it ---------------------------------------------------------------------------------------


CASES = {
    "partial Fourier": lines(16, 64),
    "partial Fourier, R = 2": lines(16, 64, 2),
    "asymmetric echo": lines(14, 56, axis=1),
    "asymmetric echo, R = 2": lines(14, 56, axis=1) & lines(0, 64, 2),
    "both": lines(16, 64) & lines(0, 44, axis=1),
    "ellipse": disc(squared=0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_against_dense_least_squares(name):
    """cov = (BᴴΨ⁻¹B)⁻¹ of the unknown samples of the extent, written out; λ of 10⁻⁹ is none."""
    small = simulate((16, 12), 4, snr=40, seed=2)
    ratio = [16 / 64, 12 / 56]
    mask = CASES[name][:: int(1 / ratio[0]), :: int(1 / ratio[1])][:16, :12].contiguous()
    if "R = 2" in name:
        mask = mask & (torch.arange(16)[:, None] % 2 == 0)
    acq = Acquisition(small.kspace * mask, small.noise_covariance, coil_maps=small.coil_maps)
    extent = torch.ones(16, 12, dtype=torch.bool) if acq.grid.extent is None else acq.grid.extent
    unit = torch.eye(16 * 12, dtype=torch.complex128).reshape(-1, 16, 12)
    images = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(unit, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
    basis = images[extent.flatten()]  # images of the samples that were encoded
    coils = to_kspace(small.coil_maps[None].to(basis) * basis[:, None])
    white = small.noise_covariance.whiten(coils, -3)[..., mask].flatten(1).T
    covariance = torch.linalg.inv(white.mH @ white)
    flat = basis.flatten(1).T
    expected = torch.einsum("vi,ij,vj->v", flat, covariance, flat.conj()).real.sqrt().reshape(16, 12)
    double = acq.replace(kspace=acq.kspace.to(torch.complex128), coil_maps=acq.coil_maps.to(torch.complex128))
    nm = noise_map(CgSense(1e-9, tolerance=1e-12), double, method="exact")
    torch.testing.assert_close(nm.std, expected, rtol=2e-4, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_auto_is_right_and_no_noise_lies_where_nothing_was_measured(name):
    """Against replicas of 400: floor 2.5 % a voxel, 0.1 % of the mean over the object."""
    acq = scan(CASES[name])
    nm = noise_map(CgSense(1e-3), acq, target_error=0.05)
    replicas = noise_map(CgSense(1e-3), acq, method="monte_carlo", n_samples=400, seed=7)
    inside = foreground(nm.image)
    ratio = (nm.variance[inside].mean() / replicas.variance[inside].mean()) ** 0.5
    assert float(ratio) == pytest.approx(1, abs=0.015)
    assert float(to_kspace(nm.image)[~acq.grid.extent].abs().max()) < 1e-4 * float(to_kspace(nm.image).abs().max())
    assert 0.95 < float(nm.g_factor[inside].median()) < 1.5
    assert nm.provenance.sampling["encoded"] == acq.grid.encoded() and nm.acceleration == acq.acceleration


@pytest.mark.parametrize("network", ["varnet", "modl", "unet", "n2r", "ssdu", "vortex"])
def test_networks_invent_nothing_where_nothing_was_measured(network):
    full = simulate((96, 80), 6, snr=40, seed=3)
    mask = torch.zeros(96, 80, dtype=torch.bool)
    mask[14:84] = True
    acq = Acquisition(full.kspace * mask, full.noise_covariance)
    image = image_of(mrnoise.networks.pretrained(network), acq)
    kspace = to_kspace(image)
    assert float(kspace[~mask].norm()) < 1e-5 * float(kspace.norm())


def test_extent_goes_along(tmp_path):
    acq = scan(lines(12, 52))
    assert acq.undersample(lines(12, 52, 2)).acceleration == pytest.approx(2)
    stack = Acquisition(torch.stack([acq.kspace] * 2), acq.noise_covariance, coil_maps=acq.coil_maps)
    assert torch.equal(stack.at(slice=1).grid.extent, lines(12, 52))
    for one in (acq, FULL.undersample(lines(26, 38))):  # of the second, all of k-space
        write_npz(one, tmp_path / "scan.npz", noise=torch.randn(6, 999, dtype=torch.complex64))
        back = mrnoise.read(tmp_path / "scan.npz")
        assert back.acceleration == pytest.approx(one.acceleration)


def echoes(*masks):
    """One scan whose images were sampled differently."""
    kspace = torch.stack([FULL.kspace * mask for mask in masks])
    return Acquisition(kspace, FULL.noise_covariance, coil_maps=FULL.coil_maps, axes=("echo",))


@pytest.mark.parametrize("recon", [CgSense(1e-3), mrnoise.reconstruction.Sense(), mrnoise.networks.pretrained("unet")])
def test_images_of_different_extent_are_each_as_alone(tmp_path, recon):
    """σ, g and R of each are those of the image in a scan of its own."""
    both, masks = echoes(EVERYTHING, lines(14, 56, axis=1)), [EVERYTHING, lines(14, 56, axis=1)]
    assert both.acceleration == 1 and both.grid.box == ((0, 64), (0, 56))
    assert "everything (in 1 of 2 images) or k0 14 to 55 of 56 (in 1 of 2 images)" in both.grid.encoded()
    write_npz(both, tmp_path / "scan.npz", noise=torch.randn(6, 999, dtype=torch.complex64))
    assert torch.equal(mrnoise.read(tmp_path / "scan.npz").grid.extent, torch.stack(masks))
    nm = noise_map(recon, both, n_samples=32)
    for i, mask in enumerate(masks):
        alone = noise_map(recon, scan(mask), n_samples=32, method=nm.method)
        assert torch.equal(both.at(echo=i).grid.mask, mask) and both.at(echo=i).grid.box == scan(mask).grid.box
        ratio = (nm.std[i] / alone.std)[alone.std > 0]
        assert float(ratio.mean()) == pytest.approx(1, abs=0.04)  # samples of one seed, another image number
        if nm.method == "lattice":
            assert float((ratio - 1).abs().max()) < 1e-3
            assert torch.allclose(nm.g_factor[i], alone.g_factor, rtol=1e-3, equal_nan=True)


def test_a_joint_solution_of_images_of_different_extent():
    """The images of a scan at once, as reconstructions of a series see them."""
    both = echoes(EVERYTHING, lines(14, 56, axis=1))
    maps, samples = both.whiten_maps(both.coil_maps), both.whiten(both.kspace)
    joint = mrnoise.encoding.encode(both, maps)
    found = joint.solve(joint.adjoint(samples), 1e-2)
    for i in range(2):
        alone = mrnoise.encoding.encode(both.at(echo=i), maps)
        image = alone.solve(alone.adjoint(samples[i]), 1e-2)
        assert float((found[i] - image).norm()) < 1e-3 * float(image.norm())


def test_images_of_different_acceleration_have_the_g_of_their_own():
    """g of a whole echo was 0.93 beside an undersampled one: √R was that of both together."""
    masks = [EVERYTHING, lines(0, 64, 2) | lines(24, 40)]
    nm = noise_map(CgSense(1e-3), echoes(*masks))
    assert nm.acceleration == pytest.approx(2 * 64 / (64 + 40))
    for i, mask in enumerate(masks):
        alone = noise_map(CgSense(1e-3), scan(mask))
        assert torch.allclose(nm.g_factor[i], alone.g_factor, rtol=1e-3, equal_nan=True)


@pytest.mark.parametrize(("pattern", "asked"), [("equispaced", 2.0), ("equispaced", 3.0), ("random_1d", 2.0)])
def test_net_acceleration_of_a_command_on_partial_fourier(pattern, asked):
    """It was 1.62 for 2: lines of the part that was not encoded were counted."""
    full = simulate((96, 80), 4, snr=40, seed=1)
    mask = torch.ones(96, 80, dtype=torch.bool)
    mask[:26] = False
    acq = Acquisition(full.kspace * mask, full.noise_covariance, coil_maps=full.coil_maps)
    found = acq.undersample(Undersampling(asked, None, pattern, None, 0).mask_of(acq))
    assert found.acceleration == pytest.approx(asked, rel=0.1)


def test_a_mask_and_zeros_say_the_same():
    """R 1.45 and 2.8 times the σ with the mask beside it, which readers of files did not have."""
    mask = lines(24, 64)
    given = Acquisition(FULL.kspace, FULL.noise_covariance, mask, FULL.coil_maps)
    assert given.acceleration == scan(mask).acceleration == 1.0
    whole = Acquisition(FULL.kspace, FULL.noise_covariance, coil_maps=FULL.coil_maps, sampling=Grid(mask))
    assert whole.acceleration == FULL.undersample(mask).acceleration == 1.6


def test_undersampling_of_a_command_is_that_of_what_was_encoded():
    mask = Undersampling(2.0, None, "equispaced", 0, 0).mask_of(scan(lines(12, 52)))
    assert bool((lines(12, 52) >= mask).all()) and int(mask[:, 0].sum()) == 20


def test_padded_columns_of_fastmri(tmp_path):
    """R 1.21, g 1.59 and half the SNR before; of random lines the limits of the header tell."""
    rng = np.random.default_rng(0)
    kspace = np.zeros((2, 3, 24, 40), np.complex64)
    kspace[..., 5:37] = rng.standard_normal((2, 3, 24, 32)) + 1j * rng.standard_normal((2, 3, 24, 32))
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["kspace"] = kspace
    acq = mrnoise.read(tmp_path / "brain.h5")
    assert acq.acceleration == 1 and acq.grid.box == ((0, 24), (5, 37))
