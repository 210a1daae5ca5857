"""Properties that hold for every shape, coil count and sampling."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnoise import Acquisition
from mrnoise.linearization import linearize
from mrnoise.reconstruction import CgSense, Sense, ZeroFilled
from mrnoise.sampling import equispaced
from mrnoise.simulation import random_noise_covariance


def normal(shape, seed):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@st.composite
def scans(draw):
    """Regularly undersampled scans of noise with random smooth-free coil maps: no symmetry to hide behind."""
    r = draw(st.integers(1, 3))
    shape = (r * draw(st.integers(2, 4)), draw(st.integers(3, 7)))
    coils = draw(st.integers(r + 1, 5))
    seed = draw(st.integers(0, 10_000))
    return Acquisition(
        kspace=normal((coils, *shape), seed),
        noise_covariance=random_noise_covariance(coils, draw(st.floats(1.5, 50)), seed),
        mask=equispaced(shape, r, offset=draw(st.integers(0, 2))),
        coil_maps=normal((coils, *shape), seed + 1),
    )


METHODS = st.sampled_from([ZeroFilled(), Sense(0.1), CgSense(0.1)])


@settings(max_examples=30, deadline=None)
@given(scans(), METHODS, st.integers(0, 10_000))
def test_linear_reconstructions_are_their_own_derivative(acq, method, seed):
    (operator,) = linearize(method, acq)
    v = normal((2, *acq.kspace.shape), seed)
    assert operator.complex_linear
    a, b = operator.apply(v)
    torch.testing.assert_close(operator.apply((2j * v[0] - v[1])[None])[0], 2j * a - b)
    # L v = g(Ψ^{1/2} v) for a linear g.
    torch.testing.assert_close(method.bind(acq)(acq.colour(v)), operator.apply(v))
    torch.testing.assert_close(operator.replicas(v), operator.apply(v))


@settings(max_examples=30, deadline=None)
@given(scans(), METHODS, st.integers(0, 10_000))
def test_adjoint_of_the_whole_chain(acq, method, seed):
    (operator,) = linearize(method, acq)
    v, w = normal((1, *acq.kspace.shape), seed), normal((1, *acq.spatial_shape), seed + 1)
    left = (operator.apply(v).conj() * w).sum().real
    right = (v.conj() * operator.adjoint(w)).sum().real
    torch.testing.assert_close(left, right)
