import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pipelines.geometry import rigid
from pipelines.scene.cameras import Cameras, rotation_from_turn


def some_cameras() -> Cameras:
    rotations = Rotation.random(6, random_state=0).as_matrix().reshape(2, 3, 3, 3)
    poses = rigid(rotations, np.tile([0.1, -0.2, 4.0], (2, 3, 1)))
    return Cameras(torch.tensor(poses, dtype=torch.float32), torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.1, -0.2]]))


def test_rotations_agree_with_scipy_also_near_zero() -> None:
    turns = np.array([[0.3, -1.0, 0.2], [1e-7, 2e-7, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, -2.0]])
    found = rotation_from_turn(torch.tensor(turns)).numpy()
    np.testing.assert_allclose(found, Rotation.from_rotvec(turns).as_matrix(), atol=1e-6)


def test_without_corrections_poses_are_the_given_ones() -> None:
    cameras = some_cameras()
    torch.testing.assert_close(cameras.all_poses(), cameras.given)


def test_a_turn_keeps_the_movers_centre_and_the_background_camera_in_place() -> None:
    cameras = some_cameras()
    before = cameras.all_poses().detach()
    with torch.no_grad():
        cameras.twist[:, :, :3] = torch.tensor([0.2, -0.1, 0.3])
    after = cameras.all_poses().detach()
    centre = torch.tensor([0.3, 0.1, -0.2, 1.0])
    torch.testing.assert_close(after[1] @ centre, before[1] @ centre, atol=1e-5, rtol=0)
    camera_before = -(before[0, :, :3, :3].transpose(1, 2) @ before[0, :, :3, 3:])
    camera_after = -(after[0, :, :3, :3].transpose(1, 2) @ after[0, :, :3, 3:])
    torch.testing.assert_close(camera_after, camera_before, atol=1e-5, rtol=0)


def test_gradients_are_finite_at_zero_correction() -> None:
    cameras = some_cameras()
    cameras.all_poses()[..., :3, :].square().sum().backward()
    assert cameras.twist.grad is not None
    assert bool(torch.isfinite(cameras.twist.grad).all())
    assert float(cameras.twist.grad[..., 3:].abs().max()) > 0


def test_a_distance_is_that_of_known_poses() -> None:
    """Frames without a pose hold any; shifts would else be measured in a unit that means nothing."""
    poses = torch.eye(4).repeat(2, 6, 1, 1)
    poses[1, :2, 2, 3] = 5.0
    registered = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    cameras = Cameras(poses, torch.zeros(2, 3), registered)
    assert cameras.distance.tolist() == [1.0, 5.0]
    assert torch.isfinite(Cameras(poses, torch.zeros(2, 3), torch.zeros(2, 6, dtype=torch.bool)).distance).all()
