import numpy as np

from pipelines.evaluation.covisibility import covisible, dis_flow, returns


def constant_flow(x: float, y: float) -> np.ndarray:
    return np.broadcast_to(np.array([x, y]), (20, 30, 2)).astype(np.float32)


def test_flow_that_returns_and_flow_that_does_not():
    ok = returns(constant_flow(4, 0), constant_flow(-4, 0))
    # What leaves the picture on the right is not seen.
    assert ok[:, :26].all() and not ok[:, 27:].any()
    assert not returns(constant_flow(4, 0), constant_flow(-5, 0)).any()


def test_the_threshold_grows_with_the_motion():
    # |f + b|^2 = 1 against 0.01 (|f|^2 + |b|^2) + 0.5: rejected for 3 and 4 px, accepted for 7 and 6.
    assert not returns(constant_flow(3, 0), constant_flow(-4, 0)).any()
    assert returns(constant_flow(7, 0), constant_flow(-6, 0))[:, :23].all()


def test_pixels_must_be_seen_in_five_frames():
    view = np.zeros((20, 30, 3), np.uint8)
    flows = {0: constant_flow(0, 0), 1: constant_flow(50, 0)}

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return flows[int(first.max() or second.max())]

    seen, unseen = view, np.ones_like(view)
    assert covisible(view, [seen] * 5 + [unseen] * 40, flow).all()
    assert not covisible(view, [seen] * 4 + [unseen] * 3, flow).any()
    # Of 60 frames a tenth is needed.
    assert not covisible(view, [seen] * 5 + [unseen] * 55, flow).any()
    assert not covisible(view, [], flow).any()


def test_dis_flow_finds_a_shift():
    rng = np.random.default_rng(0)
    import cv2

    image = cv2.GaussianBlur(rng.integers(0, 255, (64, 80, 3), np.uint8), (0, 0), 2)
    flow_px = dis_flow(image, np.roll(image, 3, 1))
    np.testing.assert_allclose(np.median(flow_px[10:-10, 10:-10], axis=(0, 1)), [3, 0], atol=0.2)
