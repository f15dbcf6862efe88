"""One photograph without a pose: which field of view it gets, from real EXIF data of JPEG files."""

import math

import pytest
import torch
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from scenetok_core.captures import exif_fov
from scenetok_core.trajectories.framing import DEFAULT_FOV
from scenetok_core.views.photograph import load_photograph, load_photographs

WIDTH, HEIGHT = 40, 30
FILM, FOCAL, DENSITY, UNIT, TAKEN_WIDTH, TAKEN_HEIGHT = (
    ExifTags.Base.FocalLengthIn35mmFilm,
    ExifTags.Base.FocalLength,
    ExifTags.Base.FocalPlaneXResolution,
    ExifTags.Base.FocalPlaneResolutionUnit,
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
)
SENSOR_MM = 36.0  # width of the sensor in the tests, with a lens of 50 mm
SENSOR_DEGREES = math.degrees(2 * math.atan(SENSOR_MM / 2 / 50))
QUARTER_TURN = 6  # EXIF orientation of a camera held upright


def write_jpeg(path, tags=None, orientation=None, size=(WIDTH, HEIGHT), **options):
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update(tags or {})
    picture = Image.new("RGB", size, (250, 250, 250))
    picture.paste((0, 0, 0), (0, 0, size[0] // 2, size[1]))  # dark on the left as stored
    picture.save(path, **{"exif": exif, **options})
    return path


@pytest.fixture
def photo(tmp_path):
    return lambda tags=None, **options: write_jpeg(tmp_path / "photo.jpg", tags, **options)


def corner_degrees(cameras):
    """Angle between the rays through two opposite corners of the picture."""
    corners = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]) @ torch.linalg.inv(cameras.K[0]).T
    return math.degrees(math.acos(torch.cosine_similarity(*corners, dim=0)))


def test_a_focal_length_on_film_stands_for_the_same_diagonal(photo):
    loaded = load_photograph(photo({FILM: 26}))
    assert loaded.source == "exif"
    assert corner_degrees(loaded.view.cameras) == pytest.approx(2 * math.degrees(math.atan(43.27 / 2 / 26)), abs=0.01)
    longer = 2 * math.degrees(math.atan(0.5 / float(loaded.view.cameras.K[0, 0, 0])))
    assert loaded.fov_degrees == pytest.approx(longer, abs=1e-4)
    assert loaded.view.rgb.shape == (1, 3, HEIGHT, WIDTH)
    assert torch.equal(loaded.view.cameras.c2w[0], torch.eye(4))


@pytest.mark.parametrize(("unit", "per_unit"), [(None, 25.4), (2, 25.4), (3, 10.0), (4, 1.0), (5, 0.001)])
def test_a_focal_length_and_a_sensor_tell_it_too(photo, unit, per_unit):
    tags = {FOCAL: IFDRational(50), DENSITY: IFDRational(round(WIDTH * per_unit / SENSOR_MM * 10**6), 10**6)}
    degrees = exif_fov(photo(tags if unit is None else {**tags, UNIT: unit}))
    assert degrees == pytest.approx(SENSOR_DEGREES, rel=1e-3)


def test_the_sensor_is_that_of_the_picture_as_taken(photo):
    tags = {FOCAL: IFDRational(50), DENSITY: IFDRational(4000 * 10, 36), UNIT: 3}
    assert exif_fov(photo({**tags, TAKEN_WIDTH: 4000, TAKEN_HEIGHT: 3000})) == pytest.approx(SENSOR_DEGREES, rel=1e-4)
    assert exif_fov(photo({**tags, TAKEN_WIDTH: 3000, TAKEN_HEIGHT: 4000})) == pytest.approx(SENSOR_DEGREES, rel=1e-4)
    assert exif_fov(photo({**tags, FILM: 26})) == pytest.approx(exif_fov(photo({FILM: 26})))


def test_an_upright_picture_has_the_angle_across_its_height(photo):
    lying, upright = (load_photograph(photo({FILM: 26}, orientation=turn)) for turn in (None, QUARTER_TURN))
    assert upright.view.rgb.shape == (1, 3, WIDTH, HEIGHT)
    assert upright.view.rgb[0, :, :5].mean() < 0.2 < 0.8 < upright.view.rgb[0, :, -5:].mean()
    assert upright.view.cameras.size == (WIDTH, HEIGHT)
    assert upright.fov_degrees == lying.fov_degrees
    assert torch.allclose(upright.view.cameras.K[0, 1, 1], lying.view.cameras.K[0, 0, 0])
    assert torch.allclose(upright.view.cameras.K[0, 0, 0], lying.view.cameras.K[0, 1, 1])


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {FILM: 0},
        {FILM: 1},
        {FILM: 65535},
        {FILM: "wide"},
        {FILM: (26, 28)},
        {FOCAL: IFDRational(50)},
        {FOCAL: IFDRational(50), DENSITY: IFDRational(0, 1)},
        {FOCAL: IFDRational(0, 0), DENSITY: IFDRational(1000)},
        {FOCAL: IFDRational(50), DENSITY: IFDRational(5, 0)},
        {FOCAL: IFDRational(50), DENSITY: IFDRational(1000), UNIT: 1},
        {FOCAL: IFDRational(50), DENSITY: IFDRational(1), UNIT: 5},
    ],
    ids=repr,
)
def test_what_no_camera_has_counts_as_absent(photo, tags):
    path = photo(tags)
    assert exif_fov(path) is None
    loaded = load_photograph(path)
    assert (loaded.fov_degrees, loaded.source) == (DEFAULT_FOV, "default")


def test_nonsense_in_one_tag_leaves_the_other(photo):
    tags = {FILM: 0, FOCAL: IFDRational(50), DENSITY: IFDRational(WIDTH * 10, 36), UNIT: 3}
    assert exif_fov(photo(tags)) == pytest.approx(SENSOR_DEGREES, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("data", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\x05\0"], ids=["garbage", "cut"])
def test_damaged_exif_data_count_as_absent(photo, data):
    assert load_photograph(photo(exif=data)).source == "default"


def test_a_given_angle_comes_first(photo):
    loaded = load_photograph(photo({FILM: 26}), 90.0)
    assert (loaded.fov_degrees, loaded.source) == (90.0, "given")
    assert float(loaded.view.cameras.K[0, 0, 0]) == pytest.approx(0.5)


def test_what_is_no_photograph_is_refused(tmp_path, photo):
    (tmp_path / "words.jpg").write_text("no picture")
    for read in (load_photograph, exif_fov):
        with pytest.raises(ValueError, match=r"cannot read the picture .*words\.jpg"):
            read(tmp_path / "words.jpg")
    with pytest.raises(ValueError, match="between 0 and 180 degrees, got 180"):
        load_photograph(photo(), 180.0)


def test_photographs_of_one_camera_are_a_batch_with_its_field_of_view(tmp_path):
    paths = [write_jpeg(tmp_path / f"{i}.jpg", {FILM: 26}, orientation=QUARTER_TURN) for i in range(5)]
    done = []
    rgb, fov = load_photographs(paths, most=3, max_side=20, progress=lambda *step: done.append(step))
    assert rgb.shape == (3, 3, 20, 15) and done == [(1, 3), (2, 3), (3, 3)]
    alone = load_photograph(paths[0])
    assert fov == pytest.approx(alone.fov_degrees)
    torch.testing.assert_close(load_photographs(paths[:1])[0], alone.view.rgb)
    write_jpeg(paths[1], {FILM: 50}, orientation=QUARTER_TURN)
    assert load_photographs(paths)[1] is None
    write_jpeg(paths[1], orientation=QUARTER_TURN)
    assert load_photographs(paths)[1] is None


def test_photographs_of_several_sizes_or_none_are_refused(tmp_path):
    paths = [write_jpeg(tmp_path / "a.jpg"), write_jpeg(tmp_path / "b.jpg", size=(HEIGHT, WIDTH))]
    with pytest.raises(ValueError, match=r"b\.jpg is 30 x 40, but a\.jpg is 40 x 30 .* one camera held one way"):
        load_photographs(paths)
    with pytest.raises(ValueError, match="no pictures"):
        load_photographs([])
