import math

import pytest
import torch
from PIL import Image

from scenetok_core.files import replacing
from scenetok_core.metrics import psnr
from scenetok_core.pictures.sheets import contact_sheet, enlarge, save_image, side_by_side, to_bytes, to_image
from scenetok_core.pictures.video import read_video_frames, write_video

FRAMES = 7
FINEST_STEP = 1 / 255


def moving_gradient(height, width, frames=FRAMES) -> torch.Tensor:
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    red = [0.5 + 0.4 * torch.sin(3 * (x + y) + 0.2 * i) for i in range(frames)]
    return torch.stack([torch.stack([r, y.expand(height, width), 0.3 + 0.4 * x * y]) for r in red])


def pixels_of(image) -> torch.Tensor:
    return torch.tensor(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)


def colour_bars() -> torch.Tensor:
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1], [0.5, 0.5, 0.5]])
    return colours.T[:, None, :].repeat_interleave(4, dim=-1).expand(3, 16, 20)[None].repeat(FRAMES, 1, 1, 1)


@pytest.mark.parametrize(
    ("size", "factor", "stored"),
    [((48, 64), 6, (288, 384)), ((37, 75), 7, (260, 526)), ((257, 301), 1, (258, 302)), ((256, 300), 1, (256, 300))],
)
@pytest.mark.parametrize("fps", [8.0, 30000 / 1001])
def test_video_round_trip(tmp_path, size, factor, stored, fps):
    frames, calls = moving_gradient(*size), []
    write_video(tmp_path / "new" / "walk.mp4", frames, fps, progress=lambda *call: calls.append(call))
    read, read_fps = read_video_frames(tmp_path / "new" / "walk.mp4")
    assert read.shape == (FRAMES, 3, *stored)
    assert math.isclose(read_fps, fps, rel_tol=1e-4)
    assert calls == [(i + 1, FRAMES) for i in range(FRAMES)]
    expected = enlarge(frames, factor)
    assert float(psnr(read[..., : expected.shape[-2], : expected.shape[-1]], expected).min()) > 40
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["walk.mp4"]


def test_colours_survive_and_are_tagged(tmp_path):
    bars = colour_bars()
    write_video(tmp_path / "bars.mp4", bars, 10)
    centers = read_video_frames(tmp_path / "bars.mp4")[0][:, :, 8::16, 32::64]
    torch.testing.assert_close(centers[0, :, 5], bars[0, :, 8, 2::4], atol=3 * FINEST_STEP, rtol=0)


def test_values_outside_the_range_are_clipped(tmp_path):
    frames = torch.cat([torch.full((1, 3, 256, 256), -0.5), torch.full((1, 3, 256, 256), 1.5)])
    write_video(tmp_path / "clip.mp4", frames, 2)
    levels = read_video_frames(tmp_path / "clip.mp4")[0].mean((1, 2, 3))
    torch.testing.assert_close(levels, torch.tensor([0.0, 1.0]), atol=2 * FINEST_STEP, rtol=0)


def test_a_cancelled_video_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"old")

    def cancel(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, moving_gradient(16, 16), 8, progress=cancel)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (torch.zeros(0, 3, 8, 8), 8, "at least one frame"),
        (torch.zeros(2, 4, 8, 8), 8, "frames must have shape"),
        (torch.zeros(1, 2, 3, 8, 8), 8, "shape .T, 3, H, W."),
        (torch.full((1, 3, 8, 8), math.nan), 8, "NaN"),
        (torch.zeros(1, 3, 8, 8), 0, "fps must be a positive"),
        (torch.zeros(1, 3, 8, 8), math.inf, "fps must be a positive"),
    ],
)
def test_bad_videos_are_refused(tmp_path, frames, fps, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "bad.mp4", frames, fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("content", "message"), [(None, "no such video"), (b"no video", "no video that PyAV")])
def test_unreadable_videos_are_refused(tmp_path, content, message):
    path = tmp_path / "in.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_video_frames(path)


def test_sheet_shows_the_pictures_beside_their_labels():
    red, blue = torch.zeros(3, 3, 10, 20), torch.zeros(2, 3, 30, 20)
    red[:, 0], blue[:, 2] = 1.0, 1.0
    sheet = contact_sheet([("inputs", red), ("rendering\n24.1 dB", blue)], scale=2)
    pixels = pixels_of(sheet)
    assert int((pixels == torch.tensor([255, 0, 0])).all(-1).sum()) == 3 * (10 * 20) * 4
    assert int((pixels == torch.tensor([0, 0, 255])).all(-1).sum()) == 2 * (30 * 20) * 4
    first_column = int((pixels == torch.tensor([255, 0, 0])).all(-1).any(0).nonzero()[0])
    for top, bottom in ((0, sheet.height // 3), (sheet.height // 3, sheet.height)):
        assert int(pixels[top:bottom, :first_column].amax()) > 150, "no label beside this row"


def test_headings_stand_above_their_share_of_the_width():
    side, gap = 60, 4
    rows = [("shift", torch.full((4, 3, side, side), 0.5)) for _ in range(2)]
    plain, headed = contact_sheet(rows, 1), contact_sheet(rows, 1, headings=("one", "two"))
    added = headed.height - plain.height
    assert headed.width == plain.width and 8 < added < 30
    pixels = pixels_of(headed)
    assert torch.equal(pixels[added:], pixels_of(plain)), "the rows stay as they are"
    first = headed.width - 4 * (side + gap)
    ink = (pixels[:added].amax(-1) > 150).any(0).nonzero().flatten()
    for start in (first, first + 2 * (side + gap)):
        inside = ink[(ink >= start) & (ink < start + 2 * (side + gap))]
        assert len(inside) and inside[0] - start < gap
    assert ink[0] >= first


def test_batches_side_by_side_keep_their_order():
    batches = [torch.full((2, 3, 4, 4), float(i)) for i in range(6)]
    rows = side_by_side(batches, 3)
    assert [[float(picture.mean()) for picture in row] for row in rows] == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    assert [len(row) for row in side_by_side([torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 8, 8)], 1)] == [1, 2]
    with pytest.raises(ValueError, match="6 image batches do not fill rows of 4"):
        side_by_side(batches, 4)
    with pytest.raises(ValueError, match=r"must have one shape .* got \[\(1, 3, 4, 4\), \(2, 3, 4, 4\)\]"):
        side_by_side([batches[0], batches[1][:1]], 2)


def test_a_longer_label_widens_only_the_label_column():
    row = torch.zeros(2, 3, 40, 40)
    short, long = (contact_sheet([(label, row)]) for label in ("a", "a much longer label"))
    assert long.width > short.width
    assert long.height == short.height


@pytest.mark.parametrize(("side", "shown"), [(32, 96), (64, 128), (200, 200)])
def test_small_pictures_are_enlarged_by_a_whole_factor(side, shown):
    one, two = (contact_sheet([("a", torch.zeros(count, 3, side, side))]) for count in (1, 2))
    assert shown < two.width - one.width < shown + 10
    assert shown < one.height < shown + 20


@pytest.mark.parametrize(
    ("rows", "scale", "message"),
    [
        ([], None, "at least one row"),
        ([("truth", torch.zeros(0, 3, 4, 4))], None, "row 'truth' .* no pictures"),
        ([("truth", torch.zeros(3, 4, 4))], None, "row 'truth' must have shape"),
        ([("truth", torch.zeros(1, 3, 4, 4))], 0, "scale must be"),
    ],
)
def test_bad_sheets_are_refused(rows, scale, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, scale)


@pytest.mark.parametrize("as_tensor", [True, False])
def test_images_are_written_whole(tmp_path, as_tensor):
    picture = moving_gradient(9, 13, frames=1)[0]
    path = tmp_path / "sheets" / "a.png"
    save_image(path, picture if as_tensor else to_image(picture))
    with Image.open(path) as image:
        read = pixels_of(image)
    assert torch.equal(read, to_bytes(picture))
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_unknown_image_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown suffix '\.xyz'"):
        save_image(tmp_path / "a.xyz", torch.zeros(3, 4, 4))


def test_a_failed_write_leaves_no_partial_file(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), replacing(tmp_path / "a.bin") as partial:
        partial.write_bytes(b"half")
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())
