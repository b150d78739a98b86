"""The closed form against float64, and against the operator that defines it."""

import numpy as np
import pytest
import torch
from scipy import sparse

from fusionops import fusion_matrix
from fusionops.models.linear_fusion.behaviour import (
    dense_item_vectors,
    leading_eigenvectors,
    scaled_histories,
    streamed_item_vectors,
)
from fusionops.models.linear_fusion.content import Content
from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters


@pytest.fixture
def histories(interactions):
    return interactions.matrix()[:, :36]


def float64_form(histories, kernel, parameters):
    """``X_s``, the scales and ``G (G + ridge I)^-power``, dense."""
    x = histories.toarray().astype(np.float64)
    scale = x.sum(axis=0) ** -parameters.item_exponent
    scaled = x.sum(axis=1, keepdims=True) ** -parameters.user_exponent * x * scale
    gram = scaled.T @ scaled
    unit = gram.diagonal().mean()
    if kernel is not None:
        gram = gram + parameters.content_weight * unit * kernel
    values, vectors = np.linalg.eigh(gram)
    shaped = values * (values + parameters.ridge * unit) ** -parameters.power
    return scaled, scale, unit, (vectors * shaped) @ vectors.T


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_vectors_are_the_dense_form(histories, power):
    parameters = Parameters(power=power)
    scaled, _ = scaled_histories(histories, parameters)
    vectors = dense_item_vectors(scaled, None, parameters)
    *_, expected = float64_form(histories, None, parameters)
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_push_through_to_the_fusion_matrix(histories, items, power):
    """Users and items as feature rows under ``normalization="matrix"`` give the same scores."""
    parameters = Parameters(power=power, content_weight=0.3)
    warm = items.take(items.ids.ids[:36])
    content = Content.fit(warm, ["title", "section"])  # the price would make it indefinite
    features = content.features(warm)
    kernel = content.kernel(features, features).astype(np.float64)
    values, directions = np.linalg.eigh(kernel)
    assert values[0] > -1e-6  # a kernel, so it has features
    phi = directions * np.sqrt(np.maximum(values, 0.0))
    scaled, scale, unit, _ = float64_form(histories, None, parameters)
    item = np.hstack([scaled.T, np.sqrt(parameters.content_weight * unit) * phi])
    user = (histories.toarray() * scale) @ item
    expected = fusion_matrix(
        torch.from_numpy(user),
        torch.from_numpy(item),
        normalization="matrix",
        power=power,
        ridge=parameters.ridge * unit,
    ).numpy()

    sparse_scaled, item_scale = scaled_histories(histories, parameters)
    vectors = dense_item_vectors(sparse_scaled, kernel.astype(np.float32), parameters)
    scores = (histories.toarray() * item_scale) @ vectors @ vectors.T
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())


def test_streamed_form_is_the_dense_form_at_full_rank(histories, items):
    """With every item a landmark and full rank nothing is approximated but the kernel's floor."""
    parameters = Parameters()
    warm = items.take(items.ids.ids[:36])
    content = Content.fit(warm, ["title", "section"])  # the price would make it indefinite
    features = content.features(warm)
    scaled, _ = scaled_histories(histories, parameters)
    dense = dense_item_vectors(scaled, content.kernel(features, features), parameters)
    streamed = streamed_item_vectors(scaled, Landmarks(content, features), parameters)
    expected = dense @ dense.T
    np.testing.assert_allclose(streamed @ streamed.T, expected, atol=1e-3 * expected.max())


def test_leading_eigenvectors_of_a_decaying_spectrum():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    values = 1.0 / np.arange(1, 401) ** 1.5
    matrix = torch.from_numpy((basis * values) @ basis.T).float()
    found, vectors = leading_eigenvectors(matrix.__matmul__, 400, 20)
    np.testing.assert_allclose(found.numpy(), values[:20], rtol=1e-3)
    residual = matrix @ vectors - vectors * found
    assert float(residual.norm(dim=0).max()) < 1e-3


def test_rank_is_the_width_and_keeps_the_largest(histories):
    full = Parameters()
    scaled, _ = scaled_histories(histories, full)
    wide = dense_item_vectors(scaled, None, full)
    narrow = dense_item_vectors(scaled, None, Parameters(rank=10))
    assert wide.shape == (36, 36)
    assert narrow.shape == (36, 10)
    np.testing.assert_allclose(np.abs(narrow), np.abs(wide[:, :10]), atol=1e-4)


def test_scaled_histories_of_event_weights():
    histories = sparse.csr_array(np.array([[1.0, 0.2], [0.0, 1.0]], np.float32))
    scaled, scale = scaled_histories(histories, Parameters())
    np.testing.assert_allclose(scale, [1.0, 2**-0.25], rtol=1e-6)
    expected = np.array([[2**-0.3, 2**-0.3 * 0.2 * 2**-0.25], [0.0, 2**-0.25]])
    np.testing.assert_allclose(scaled.toarray(), expected, rtol=1e-6)
