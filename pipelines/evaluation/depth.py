"""Scale- and shift-invariant depth error (SSIMAE).

Per image, the prediction is mapped onto the truth by two robust numbers of each, its median and its mean absolute
deviation from it (Ranftl et al., TPAMI 2022, eq. 5); what is left is averaged. The unit is the truth's.
"""

import numpy as np
from jaxtyping import Bool, Float


def scale_shift_invariant_error(
    predicted: Float[np.ndarray, "H W"], true: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"] | None = None
) -> float:
    """Mean absolute error of the mapped prediction over the pixels whose true depth is known (finite, above 0).

    A prediction without variation is mapped to the truth's median; so are pixels whose prediction is not finite, which
    would otherwise be a way to leave out the hard ones. NaN where no pixel counts.
    """
    counted = np.isfinite(true) & (true > 0)
    if mask is not None:
        counted &= mask
    if not counted.any():
        return float("nan")
    p, q = predicted[counted].astype(np.float64), true[counted].astype(np.float64)
    finite = np.isfinite(p)
    if not finite.any():
        return float(np.abs(q - np.median(q)).mean())
    shift_p, scale_p = _location_and_spread(p[finite])
    shift_q, scale_q = _location_and_spread(q)
    centred = np.where(finite, p - shift_p, 0.0)
    mapped = shift_q + (centred * (scale_q / scale_p) if scale_p > 0 else 0.0)
    return float(np.abs(mapped - q).mean())


def _location_and_spread(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Median, and mean absolute deviation from it."""
    median = float(np.median(values))
    return median, float(np.abs(values - median).mean())
