import math

import pytest
import torch

from scenetok_core.trajectories.splines import matrix_from_quaternion, quaternion_from_matrix, rotation_about, slerp


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 0.5)])
@pytest.mark.parametrize("degrees", [0.0, 1e-6, 30.0, 179.9, 180.0, 270.0])
def test_quaternions_and_back(axis, degrees):
    rotation = rotation_about(torch.tensor(axis, dtype=torch.float64), torch.tensor([math.radians(degrees)]))
    torch.testing.assert_close(matrix_from_quaternion(quaternion_from_matrix(rotation)), rotation, atol=1e-9, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 60.0, 179.0, 180.0, 200.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_takes_the_shorter_way_at_constant_speed(degrees, sign):
    axis = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    angles = torch.tensor([0.3, 0.3 + math.radians(degrees)], dtype=torch.float64)
    start, end = quaternion_from_matrix(rotation_about(axis, angles))
    fractions = torch.linspace(0, 1, 9, dtype=torch.float64)
    matrices = matrix_from_quaternion(slerp(start.expand(9, 4), sign * end.expand(9, 4), fractions))
    chords = (matrices[1:] - matrices[:-1]).flatten(1).norm(dim=-1)
    step = 2 * math.sqrt(2) * math.sin(math.radians(min(degrees, 360 - degrees)) / 8 / 2)
    torch.testing.assert_close(chords, torch.full((8,), step).double(), atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(matrices[-1], matrix_from_quaternion(end), atol=1e-9, rtol=0)
