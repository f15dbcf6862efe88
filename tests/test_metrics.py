"""Picture measures against values that are known."""

import pytest
import torch

from scenetok_core.metrics import psnr, ssim

SIDE = 16


def pictures(*lead, seed=0):
    return torch.rand(*lead, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    flat = torch.zeros(2, 3, SIDE, SIDE)
    assert psnr(flat, flat + torch.tensor([0.1, 0.01])[:, None, None, None]).tolist() == pytest.approx([20, 40], 1e-4)
    assert psnr(flat, flat).tolist() == [100, 100]


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    a = pictures(2, 3)
    assert ssim(a, a).shape == (2, 3)
    assert torch.allclose(ssim(a, a), torch.ones(2, 3), atol=1e-5)
    weak, strong = (ssim(a, (1 - share) * a + share * pictures(2, 3, seed=1)) for share in (0.1, 0.5))
    assert (strong < weak).all() and (weak < 1).all()


@pytest.mark.parametrize(("size_a", "size_b"), [((10, 16), (10, 16)), ((16, 10), (16, 10)), ((16, 16), (12, 16))])
def test_ssim_refuses_pictures_below_its_window_or_of_two_shapes(size_a, size_b):
    with pytest.raises(ValueError, match="sides of at least 11 pixels"):
        ssim(torch.zeros(3, *size_a), torch.zeros(3, *size_b))
