"""Cameras, Views and SceneTokens check themselves once, with errors that say what to do."""

import pytest
import torch

from scenetok_core.types import Cameras, SceneTokens, Views

VIEWS, TOKENS, DIM = 3, 6, 4


def cameras(views=VIEWS, **fields):
    c2w = torch.eye(4).repeat(views, 1, 1)
    c2w[:, 0, 3] = torch.arange(views)
    K = torch.tensor([[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1.0]]).repeat(views, 1, 1)
    return Cameras(**{"c2w": c2w, "K": K, **fields})


def scene(**fields):
    return SceneTokens(
        **{
            "tokens": torch.arange(TOKENS * DIM, dtype=torch.float32).view(TOKENS, DIM),
            "reference_c2w": torch.eye(4),
            "scene_scale": 2.0,
            "cameras": cameras(names=("a", "b", "c"), size=(48, 64), unit="metric"),
            "preset": "test",
            "model_hash": "0123",
            **fields,
        }
    )


def broken(change):
    c2w = cameras().c2w.clone()
    change(c2w)
    return c2w


def shifted_centre(x):
    K = cameras().K.clone()
    K[1, 0, 2] = x
    return K


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"c2w": broken(lambda c: c[1, :3, :3].mul_(2))}, "c2w of view 1 is not a rotation"),
        ({"c2w": broken(lambda c: c[2, 0, 0].mul_(-1))}, "c2w of view 2 is not a rotation"),
        ({"c2w": broken(lambda c: c[1, 0, 3].fill_(float("nan")))}, r"NaN or infinite values in view\(s\) \[1\]"),
        ({"c2w": broken(lambda c: c[0, 3, 0].fill_(1.0))}, "last row"),
        ({"c2w": torch.eye(3).repeat(VIEWS, 1, 1)}, r"c2w must have shape \[..., \*, 4, 4\]"),
        ({"K": cameras().K * torch.tensor([[640.0], [480.0], [1.0]])}, "K looks like pixels"),
        ({"K": shifted_centre(4.5)}, "K looks like pixels .*centre up to 4.5"),
        ({"K": shifted_centre(-4.5)}, "K looks like pixels .*centre up to 4.5"),
        ({"K": cameras().K * 2}, r"last row of every K must be \[0, 0, 1\]"),
        ({"K": cameras().K.transpose(1, 2)}, "last row of every K"),
        ({"K": cameras(2).K}, "K must have shape"),
        ({"names": ("only one",)}, "one entry per view"),
        ({"unit": "inch"}, "unit must be"),
    ],
)
def test_bad_cameras_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        cameras(**fields)


def test_no_camera_is_refused():
    with pytest.raises(ValueError, match="zero frames"):
        cameras()[[]]


def test_cameras_select_views_of_every_scene():
    c2w = torch.stack([cameras().c2w, cameras().c2w + 0.0])
    batch = Cameras(c2w, cameras().K.expand(2, -1, -1, -1))
    picked = batch[[2, 0]]
    assert picked.c2w.shape == (2, 2, 4, 4)
    assert picked.centers[0, :, 0].tolist() == [2.0, 0.0]
    assert cameras(names=("a", "b", "c"))[1:].names == ("b", "c")


def test_views_need_one_camera_per_picture():
    pictures = torch.zeros(VIEWS, 3, 8, 8)
    assert len(Views(pictures, cameras())[[0, 2]]) == 2
    with pytest.raises(ValueError, match="3 pictures but 2 cameras"):
        Views(pictures, cameras(2))
    with pytest.raises(ValueError, match="no views"):
        Views(pictures[:0], cameras())
    with pytest.raises(ValueError, match="rgb must have shape"):
        Views(torch.zeros(VIEWS, 8, 8, 3), cameras())


def test_views_tell_their_cameras_the_size_of_the_pictures():
    pictures = torch.zeros(2, VIEWS, 3, 8, 12)
    batch = Cameras(cameras().c2w.expand(2, -1, -1, -1), cameras().K.expand(2, -1, -1, -1))
    assert Views(pictures, batch).cameras.size == (8, 12)
    assert batch.size is None, "the caller's cameras stay as they are"
    assert Views(pictures[0], cameras(size=(8, 12)))[[1]].cameras.size == (8, 12)
    with pytest.raises(ValueError, match=r"are 8 x 12 .*belong to pictures of 16 x 24; .*replace\(size=.*fit_views"):
        Views(pictures[0], cameras(size=(16, 24)))


def test_dicts_round_trip():
    mask = torch.tensor([True] * 5 + [False])
    given = scene(mask=mask, meta={"note": 1})
    data = given.to_dict()
    back = SceneTokens.from_dict(data)
    assert torch.equal(back.tokens, given.tokens)
    assert back.mask is not None and torch.equal(back.mask, mask)
    assert back.cameras.names == ("a", "b", "c")
    assert back.cameras.size == (48, 64)
    assert back.cameras.unit == "metric"
    assert (back.scene_scale, back.preset, back.model_hash, back.meta) == (2.0, "test", "0123", {"note": 1})


def test_newer_versions_and_foreign_dicts_are_refused():
    with pytest.raises(ValueError, match="version 99"):
        SceneTokens.from_dict({**scene().to_dict(), "version": 99})
    with pytest.raises(ValueError, match="not a cameras value"):
        Cameras.from_dict({"extrinsics": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": torch.zeros(1, TOKENS, DIM)}, r"\[N, D\]"),
        ({"mask": torch.zeros(TOKENS, dtype=torch.bool)}, "removes every token"),
        ({"mask": torch.ones(TOKENS + 1, dtype=torch.bool)}, "mask must have shape"),
        ({"scene_scale": 0.0}, "positive"),
        ({"tokens": torch.full((TOKENS, DIM), float("nan"))}, "tokens hold NaN"),
        ({"reference_c2w": torch.eye(4) * float("inf")}, "reference_c2w holds NaN or infinite values;"),
        ({"reference_c2w": torch.eye(4) * 2}, "reference_c2w is not a rotation"),
        ({"reference_c2w": torch.eye(4).flip(0)}, "reference_c2w"),
        ({"reference_c2w": torch.eye(4)[None]}, r"reference_c2w must have shape \[4, 4\]"),
    ],
)
def test_bad_scenes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        scene(**fields)


def test_active_tokens_follow_the_mask():
    mask = torch.tensor([False, True, False, True, False, False])
    assert scene(mask=mask).active[:, 0].tolist() == [4.0, 12.0]
