import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipelines.errors import InputError
from pipelines.evaluation import images


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A smooth image with detail, and a noisy, slightly shifted version of it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :52] / 10
    true = 0.5 + 0.3 * np.stack([np.sin(x * y), np.cos(2 * x), np.sin(3 * y + x)], -1)
    predicted = np.clip(np.roll(true, 1, 1) + rng.normal(0, 0.05, true.shape), 0, 1)
    return predicted, true


def test_psnr_agrees_with_scikit_image(pair):
    predicted, true = pair
    assert images.psnr_db(predicted, true) == pytest.approx(peak_signal_noise_ratio(true, predicted, data_range=1), abs=1e-9)


def test_psnr_of_a_hand_worked_case():
    true = np.zeros((2, 2, 3))
    predicted = np.full((2, 2, 3), 0.1)
    assert images.psnr_db(predicted, true) == pytest.approx(20)


def test_masked_psnr_is_that_of_the_pixels_alone(pair):
    predicted, true = pair
    mask = np.zeros(true.shape[:2], bool)
    mask[5:20, 3:30] = True
    expected = peak_signal_noise_ratio(true[5:20, 3:30], predicted[5:20, 3:30], data_range=1)
    assert images.psnr_db(predicted, true, mask) == pytest.approx(expected, abs=1e-9)


def test_ssim_agrees_with_scikit_image(pair):
    predicted, true = pair
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 2}
    assert images.ssim(predicted, true) == pytest.approx(structural_similarity(true, predicted, **options), abs=1e-6)


def test_psnr_and_ssim_agree_with_torchmetrics(pair, torchmetrics):
    functional = torchmetrics.image
    predicted, true = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in pair)
    psnr = functional.peak_signal_noise_ratio(predicted, true, data_range=1.0)
    # torchmetrics pads the image and also averages over its border, which the original leaves out.
    _, everywhere = functional.structural_similarity_index_measure(predicted, true, data_range=1.0, return_full_image=True)
    assert images.psnr_db(*pair) == pytest.approx(float(psnr), abs=1e-4)
    assert images.ssim(*pair) == pytest.approx(float(everywhere[..., 5:-5, 5:-5].mean()), abs=1e-4)


def slow_masked_ssim(predicted: np.ndarray, true: np.ndarray, mask: np.ndarray) -> float:
    """Window by window, channel by channel."""
    offsets = np.arange(-5, 6)
    window = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets**2) / 1.5**2)
    values = []
    for y in range(5, true.shape[0] - 5):
        for x in range(5, true.shape[1] - 5):
            if not mask[y, x]:
                continue
            place = (slice(y - 5, y + 6), slice(x - 5, x + 6))
            weight = window * mask[place]
            weight = weight / weight.sum()
            for c in range(3):
                a, b = predicted[place][..., c], true[place][..., c]
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
                cov = (weight * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4) / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
                )
    return float(np.mean(values))


def test_masked_ssim_agrees_with_a_slow_reference(pair):
    predicted, true = pair
    mask = np.random.default_rng(1).uniform(size=true.shape[:2]) < 0.6
    assert images.ssim(predicted, true, mask) == pytest.approx(slow_masked_ssim(predicted, true, mask), abs=1e-9)


def test_what_the_mask_leaves_out_has_no_influence(pair):
    predicted, true = pair
    mask = np.zeros(true.shape[:2], bool)
    mask[:, :25] = True
    spoilt = predicted.copy()
    spoilt[:, 25:] = 0.9
    assert images.ssim(predicted, true, mask) == pytest.approx(images.ssim(spoilt, true, mask), abs=1e-12)
    assert images.psnr_db(predicted, true, mask) == images.psnr_db(spoilt, true, mask)


def test_identical_and_constant_images(pair):
    _, true = pair
    flat = np.full((20, 20, 3), 0.3)
    assert images.psnr_db(true, true) == np.inf
    assert images.ssim(true, true) == pytest.approx(1, abs=1e-12)
    assert images.ssim(flat, flat) == pytest.approx(1, abs=1e-12)
    # Two constants: variances vanish, and only the luminance term is left.
    assert images.ssim(flat, flat + 0.2) == pytest.approx((2 * 0.3 * 0.5 + 1e-4) / (0.3**2 + 0.5**2 + 1e-4), abs=1e-9)


def test_an_empty_mask_judges_nothing(pair):
    nothing = np.zeros(pair[1].shape[:2], bool)
    assert np.isnan(images.psnr_db(*pair, nothing))
    assert np.isnan(images.ssim(*pair, nothing))


def test_values_that_are_not_finite_are_as_wrong_as_can_be():
    true = np.full((12, 12, 3), 0.25)
    predicted = true.copy()
    predicted[0, 0] = np.nan
    worst = true.copy()
    worst[0, 0] = 1.0
    assert images.psnr_db(predicted, true) == images.psnr_db(worst, true)
    assert images.ssim(predicted, true) == images.ssim(worst, true)


def test_an_image_of_nothing_but_nan_has_finite_scores():
    true = np.random.default_rng(0).uniform(size=(16, 16, 3))
    nothing = np.full_like(true, np.nan)
    assert 0 < images.psnr_db(nothing, true) < 5
    assert images.ssim(nothing, true) < 0.1
    mask = np.zeros((16, 16), bool)
    mask[6:10, 6:10] = True
    assert np.isfinite(images.ssim(nothing, true, mask)) and np.isfinite(images.psnr_db(nothing, true, mask))


def test_images_below_the_window_are_refused():
    small = np.zeros((10, 30, 3))
    with pytest.raises(InputError, match="at least 11 px"):
        images.ssim(small, small)
