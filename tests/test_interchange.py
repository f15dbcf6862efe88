"""Cameras out and in again in every convention, and what is refused."""

import json
import math
import struct

import pytest
import torch

from scenetok_core import Cameras, Views, open_capture
from scenetok_core.camera import invert_poses
from scenetok_core.captures import read_cameras, write_colmap, write_realestate
from scenetok_core.captures.export import FORMATS, save_cameras
from scenetok_core.interchange import (
    from_cameractrl,
    from_depth_anything,
    from_load3d,
    from_matrices,
    from_realestate_text,
    from_upright,
    insert_key,
    place_at,
    to_cameractrl,
    to_load3d,
    to_matrices,
    to_wan,
    viewer_fit,
)
from scenetok_core.points.files import file_points
from scenetok_core.points.fusion import PointCloud
from scenetok_core.points.geometry import PosedDepth, to_da3
from tests import outside, small
from tests.captures import CX, CY, FX, FY, HEIGHT, NAMES, VIEWS, WIDTH, assert_same_cameras, reference, w2c
from tests.outside import PAYLOADS, payload

SIZE = (HEIGHT, WIDTH)
FLIP = torch.tensor([1.0, -1.0, -1.0])


def homogeneous(xyz):
    return torch.cat([xyz, torch.ones(len(xyz), 1)], 1).T


def centred(size=SIZE):
    """Three cameras turned any way, with square pixels and the principal point in the middle, as viewers have it."""
    cameras = reference(size)
    K = cameras.K.clone()
    K[:, :2, 2], K[:, 1, 1] = 0.5, K[:, 0, 0] * size[1] / size[0]
    return cameras.replace(K=K)


def through_files(tmp_path, cameras, name):
    rgb = torch.rand(len(cameras), 3, *(cameras.size or SIZE), generator=torch.Generator().manual_seed(0))
    save_cameras(tmp_path / "saved", cameras, name, rgb)
    return open_capture(tmp_path / "saved")


@pytest.mark.parametrize("size", [SIZE, (WIDTH, HEIGHT), (20, 50)], ids=["wide", "upright", "panorama"])
def test_every_form_gives_back_the_cameras_it_was_made_of(tmp_path, size):
    cameras = reference(size)
    assert_same_cameras(from_matrices(*to_matrices(cameras), size), cameras)
    assert_same_cameras(from_cameractrl(to_cameractrl(cameras), size), cameras)
    write_realestate(tmp_path / "path.txt", cameras)
    assert_same_cameras(read_cameras(tmp_path / "path.txt"), cameras)
    assert_same_cameras(from_realestate_text((tmp_path / "path.txt").read_text(), size), cameras)
    viewed = centred(size)
    frames = [from_load3d(to_load3d(viewed, i), size) for i in range(VIEWS)]
    together = insert_key(insert_key(frames[0], frames[1]), frames[2])
    assert_same_cameras(together, viewed)
    assert together.size == size


@pytest.mark.parametrize("name", FORMATS)
def test_saved_cameras_are_captures(tmp_path, name):
    cameras = reference()
    capture = through_files(tmp_path, cameras, name)
    assert_same_cameras(capture.cameras, cameras)
    views, generator = capture.load(), torch.Generator().manual_seed(0)
    torch.testing.assert_close(views.rgb, torch.rand(VIEWS, 3, *SIZE, generator=generator), atol=0.003, rtol=0)


def test_a_colmap_model_shares_equal_intrinsics_and_keeps_different_ones(tmp_path):
    cameras = reference()
    K = cameras.K.clone()
    K[1, 0, 0] *= 1.1
    write_colmap(tmp_path / "sparse" / "0", cameras.replace(K=K), NAMES, SIZE)
    text = (tmp_path / "sparse" / "0" / "cameras.txt").read_text()
    assert [line.split()[:4] for line in text.splitlines()[1:]] == [
        ["1", "PINHOLE", str(WIDTH), str(HEIGHT)],
        ["2", "PINHOLE", str(WIDTH), str(HEIGHT)],
    ]


def test_colmap_itself_reads_the_text_model(tmp_path):
    pycolmap = pytest.importorskip("pycolmap", reason="needs pycolmap")
    cameras = reference()
    save_cameras(tmp_path, cameras, "COLMAP")
    model = pycolmap.Reconstruction(str(tmp_path / "sparse" / "0"))
    for image in model.images.values():
        i = int(image.name.removesuffix(".png"))
        expected = w2c()[i, :3].float()
        matrix = torch.as_tensor(image.cam_from_world().matrix()).float()
        torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=0)
        assert image.camera.params.tolist() == pytest.approx([FX, FY, CX, CY], abs=1e-4)


def test_the_size_of_matrices_follows_the_principal_point_where_it_is_not_told():
    K = torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
    cameras = from_matrices(w2c()[:, :3][None], K)
    assert cameras.size == (24, 32) and len(cameras) == VIEWS
    torch.testing.assert_close(cameras.K[2], torch.tensor([[30 / 32, 0, 0.5], [0, 30 / 24, 0.5], [0, 0, 1]]))


def test_rotations_in_half_precision_are_repaired_and_other_matrices_refused():
    poses, K = w2c(), to_matrices(reference())[1]
    halved = from_matrices(poses.bfloat16(), K)
    error = halved.c2w[:, :3, :3] - reference().c2w[:, :3, :3]
    assert 1e-4 < float(error.abs().max()) < 1e-2
    product = halved.c2w[:, :3, :3].double()
    torch.testing.assert_close(product @ product.mT, torch.eye(3).double().expand(VIEWS, 3, 3), atol=1e-6, rtol=0)
    doubled = poses.clone()
    doubled[1, :3, :3] *= 2
    mirrored = poses.clone()
    mirrored[0, 0] *= -1
    for broken, which in ((doubled, "view 1"), (mirrored, "view 0")):
        with pytest.raises(ValueError, match=f"{which} is not a rotation"):
            from_matrices(broken, K)
    with pytest.raises(ValueError, match=r"NaN or infinite values in view\(s\) \[2\]"):
        from_matrices(torch.where(torch.arange(VIEWS)[:, None, None] == 2, torch.nan, poses), K)


@pytest.mark.parametrize(
    ("extrinsics", "intrinsics", "message"),
    [
        ([[1]], torch.eye(3), "EXTRINSICS must be a tensor"),
        (torch.eye(3), torch.eye(3), r"EXTRINSICS must have shape \[V, 4, 4\] or \[V, 3, 4\], got \[3, 3\]"),
        (torch.eye(4).repeat(2, 3, 1, 1), torch.eye(3), "EXTRINSICS must have shape"),
        (torch.eye(4), torch.eye(4), "INTRINSICS must have shape"),
        (torch.eye(4).repeat(3, 1, 1), torch.ones(2, 3, 3), "3 EXTRINSICS but 2 INTRINSICS"),
        (torch.eye(4), torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]]), "must be in pixels"),
    ],
)
def test_matrices_that_are_none_are_refused(extrinsics, intrinsics, message):
    with pytest.raises(ValueError, match=message):
        from_matrices(extrinsics, intrinsics)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        ([], "must be a list of rows"),
        ("0 1 1", "must be a list of rows"),
        ([[0.0] * 18], "row 0 of CAMERACTRL_POSES must hold 19 numbers"),
        ([[0, "a", *[0] * 17]], "must hold numbers only"),
        ([outside.cameractrl_row()[:-12] + [0] * 12], "is not a rotation"),
    ],
)
def test_rows_that_are_no_cameras_are_refused(poses, message):
    with pytest.raises(ValueError, match=message):
        from_cameractrl(poses)


def test_text_that_is_no_camera_file_is_refused():
    with pytest.raises(ValueError, match="the text holds no cameras"):
        from_realestate_text("https://example.org\n")
    with pytest.raises(ValueError, match="line 1 of the text has 3 columns, expected 19"):
        from_realestate_text("1 2 3")


def test_depth_anything_gives_views_whose_intrinsics_belong_to_their_pictures():
    """The payload's network saw 504 x 378 pixels of pictures of 4 x 3, its rotations are in half precision."""
    views = from_depth_anything(outside.depth_anything_payload())
    assert isinstance(views, Views) and views.cameras.size == (3, 4) and len(views) == 3
    focal = torch.tensor([[420 / 504, 421 / 378], [422.5 / 504, 420.5 / 378], [418 / 504, 419 / 378]])
    torch.testing.assert_close(views.cameras.K[:, (0, 1), (0, 1)], focal)
    torch.testing.assert_close(views.cameras.centers[1], torch.tensor([0.3, 0, 0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(views.rgb[2, :, 1, 3], torch.tensor(payload("da3_geometry")["image"][2][1][3]))


def test_principal_points_that_were_fitted_to_rays_stay_where_they_are():
    geometry = outside.depth_anything_payload()
    geometry["intrinsics"][..., 0, 2] += torch.tensor([3.0, -2.0, 1.0])
    K = from_depth_anything(geometry).cameras.K
    torch.testing.assert_close(K[:, 0, 2], torch.tensor([255.0, 250.0, 253.0]) / 504)
    torch.testing.assert_close(K[:, 0, 0], torch.tensor([420.0, 422.5, 418.0]) / 504)


def test_a_camera_placed_around_upright_points_comes_back_into_the_capture():
    """The viewer sees the file: what it shows at a pixel must be what the camera sees there in the capture."""
    tilted = reference(SIZE)
    xyz = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    cloud = PointCloud(xyz, torch.zeros(50, 3), torch.zeros(50, 3), tilted)
    position = {"x": 0.4, "y": 1.5, "z": 6.0}
    info = {"position": position, "target": {"x": 0, "y": 0, "z": 0}, "zoom": 1, "cameraType": "perspective"}
    camera = from_upright(from_load3d(info, (64, 64)), tilted)
    viewer = from_load3d(info, (64, 64))  # its world: the file's, y and z turned round
    shown = viewer.K @ invert_poses(viewer.c2w)[:, :3].float() @ homogeneous(file_points(cloud, "upright") * FLIP)
    seen = camera.K @ invert_poses(camera.c2w)[:, :3].float() @ homogeneous(xyz)
    torch.testing.assert_close(seen, shown, atol=1e-4, rtol=1e-4)


def test_our_own_geometry_is_read_like_that_of_depth_anything():
    views = small.views(3, (48, 64))
    flat = torch.ones(3, 48, 64)
    geometry = to_da3(PosedDepth(views, flat, flat, flat > 0))
    assert_same_cameras(from_depth_anything(geometry).cameras, views.cameras)


def test_depth_anything_without_cameras_is_refused():
    geometry = outside.depth_anything_payload()
    with pytest.raises(ValueError, match="must be a dict, got list"):
        from_depth_anything([geometry])
    mono = {key: geometry[key] for key in ("image", "depth")} | {"mode": "mono"}
    with pytest.raises(
        ValueError, match=r"mode 'mono'.* has no extrinsics, intrinsics; run Depth Anything 3 in mode m"
    ):
        from_depth_anything(mono)
    identity = {"extrinsics": torch.eye(4).repeat(1, 3, 1, 1), "intrinsics": torch.eye(3).repeat(1, 3, 1, 1)}
    with pytest.raises(ValueError, match="has no intrinsics: the model has no camera decoder"):
        from_depth_anything(geometry | identity)
    with pytest.raises(ValueError, match=r"extrinsics .* must have shape \[1, 2, 3, 4\] for its 2 pictures"):
        from_depth_anything(geometry | {"image": geometry["image"][:2]})


def test_old_and_new_viewer_cameras_agree_on_the_pose():
    old, new = (from_load3d(payload(f"load3d_camera_{age}")) for age in ("old", "new"))
    torch.testing.assert_close(old.c2w, new.c2w, atol=1e-6, rtol=0)
    torch.testing.assert_close(old.centers[0], torch.tensor([3.0, -2.0, -4.0]))
    assert old.size == (1024, 1024) and new.size == (1024, 1536)
    fov = [math.degrees(2 * math.atan(0.5 / float(camera.K[0, 1, 1]))) for camera in (old, new)]
    assert fov == pytest.approx([35.0, math.degrees(2 * math.atan(math.tan(math.radians(20)) / 1.25))])
    assert float(new.K[0, 1, 1] / new.K[0, 0, 0]) == pytest.approx(1.5)


@pytest.mark.parametrize(("height", "down"), [(3.0, 1.0), (-3.0, -1.0)])
def test_a_viewer_straight_above_or_below_its_target_keeps_x_to_the_right(height, down):
    info = {**outside.viewer_old(), "position": {"x": 0, "y": height, "z": 0}, "target": {"x": 0, "y": 0, "z": 0}}
    camera = from_load3d(info)
    torch.testing.assert_close(camera.c2w[0, :3, 0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(camera.forward[0], torch.tensor([0, down, 0]))


def test_a_model_that_the_viewer_moved_takes_the_camera_along():
    """A point of the file and where the viewer shows it look the same."""
    (info,), camera = payload("load3d_model_info"), payload("load3d_camera_new")
    own, shown = from_load3d(camera, model_info=[info]), from_load3d(camera)
    point = torch.tensor([0.3, 0.4, 0.5])
    turned = torch.tensor([point[2], point[1], -point[0]])  # a quarter turn about y
    placed = 2.5 * turned + torch.tensor([0.5, -1.0, 2.0])

    def seen(cameras, place):
        world = place * torch.tensor([1.0, -1.0, -1.0])
        local = cameras.c2w[0, :3, :3].T @ (world - cameras.centers[0])
        return local / local[2]

    torch.testing.assert_close(seen(own, point), seen(shown, placed), atol=1e-5, rtol=0)


AXES = b"".join(b"property float %c\n" % axis for axis in b"xyz")
CORNERS = torch.tensor([[-1.0, -2.0, 0.5], [3.0, 0.0, 2.5], [0.0, -1.0, 1.0]])


def write_points(path, kind):
    header = "ply\nformat {} 1.0\ncomment x\nelement vertex 3\nproperty uchar red\nproperty float x\nproperty float y\n"
    header += "property float z\nelement face 0\nproperty list uchar int vertex_indices\nend_header\n"
    rows = CORNERS.tolist()
    if kind == "ascii":
        path.write_text(header.format("ascii") + "\n".join(" ".join(map(str, [9, *row])) for row in rows) + "\n")
    elif kind == "glb":
        accessor = {"min": CORNERS.amin(0).tolist(), "max": CORNERS.amax(0).tolist()}
        scene = {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "accessors": [accessor]}
        text = json.dumps(scene).encode()
        path.write_bytes(struct.pack("<4sII I4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text)
    else:
        body = b"".join(struct.pack("<B3f", 9, *row) for row in rows)
        path.write_bytes(header.format("binary_little_endian").encode() + body)
    return path


@pytest.mark.parametrize(
    ("layout", "kind", "shown"),
    [
        ("ball", "ascii", [-2 / 6**0.5, -1 / 6**0.5, -1 / 6**0.5]),  # 2, 1, 1 from the middle of the box
        ("ball", "binary", [-2 / 6**0.5, -1 / 6**0.5, -1 / 6**0.5]),
        ("box", "binary", [-2.5, 0.0, -1.25]),  # a box of 4 x 2 x 2, drawn 1.25 times as large
        ("box", "glb", [-2.5, 0.0, -1.25]),
    ],
)
def test_what_viewers_do_to_points_is_undone(tmp_path, layout, kind, shown):
    """A camera that the user put onto the first point stands there in the file's world as well."""
    file = write_points(tmp_path / ("points.glb" if kind == "glb" else "points.ply"), kind)
    info = {**outside.viewer_old(), "position": dict(zip("xyz", shown, strict=True))}
    camera = from_load3d(info, fit=viewer_fit(file, layout))
    torch.testing.assert_close(camera.centers[0], CORNERS[0] * torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(camera.c2w[0, :3, :3], from_load3d(info).c2w[0, :3, :3])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"v 0 0 0", "neither a .ply nor a .glb"),
        ("a.ply", b"plyx", "cannot read the points of"),
        ("a.glb", b"glTF", "cannot read the points of"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 0\n" + AXES + b"end_header\n", "has no points"),
    ],
)
def test_files_without_points_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        viewer_fit(tmp_path / name, "ball")
    with pytest.raises(ValueError, match="unknown layout 'pile'"):
        viewer_fit(tmp_path / name, "pile")


def test_viewers_keep_the_roll_of_a_camera_that_has_one():
    assert to_load3d(reference(), 0)["useCustomUp"] is True
    assert "useCustomUp" not in to_load3d(small.cameras(), 1)


def test_a_viewer_of_something_else_is_laid_onto_a_camera_of_the_capture():
    capture = reference()
    origin = from_load3d(outside.viewer_new(), SIZE)
    assert_same_cameras(place_at(origin, capture[[1]]).replace(K=capture.K[[1]]), capture[[1]])
    moved = place_at(from_load3d(outside.viewer_new(right=2.0), SIZE), capture[[1]], scale=3.0)
    expected = capture.centers[1] + 6.0 * capture.c2w[1, :3, 0]
    torch.testing.assert_close(moved.centers[0], expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="scale must be a positive number"):
        place_at(origin, capture[[1]], scale=0.0)
    with pytest.raises(ValueError, match="expected one reference camera, got 3"):
        place_at(origin, capture)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameraType": "orthographic"}, "is orthographic; switch it to perspective"),
        ({"position": None}, "position must hold the numbers x, y, z, got None"),
        ({"position": {"x": 0, "y": 0}}, "position must be a number, got None"),
        ({"target": {"x": 0, "y": 0, "z": 0}}, "are the same point"),
        ({"quaternion": {"x": 0, "y": 0, "z": 0, "w": 0}}, "quaternion of this LOAD3D_CAMERA is zero"),
        ({"fov": 180}, "must lie between 0 and 180 degrees, got 180"),
        ({"zoom": "far"}, "zoom must be a number, got 'far'"),
        ({"aspect": float("nan")}, "aspect must be a number"),
    ],
)
def test_viewer_cameras_that_are_none_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        from_load3d({**outside.viewer_old(), **changes})


def test_stretched_models_and_other_things_are_refused():
    (info,) = payload("load3d_model_info")
    with pytest.raises(ValueError, match="LOAD3D_CAMERA must be a dict"):
        from_load3d("camera")
    with pytest.raises(ValueError, match="stretches or mirrors the model"):
        from_load3d(outside.viewer_old(), model_info=[info | {"scale": {"x": 1, "y": 2, "z": 1}}])
    with pytest.raises(ValueError, match="LOAD3D_MODEL_INFO must be a list of dicts"):
        from_load3d(outside.viewer_old(), model_info="fit")
    with pytest.raises(ValueError, match="frame must be between 0 and 2, got 3"):
        to_load3d(reference(), 3)


def test_viewers_turn_around_what_the_cameras_look_at():
    info, cameras = to_load3d(small.cameras(), 1), small.cameras()
    target = torch.tensor([info["target"][axis] for axis in "xyz"]) * torch.tensor([1.0, -1.0, -1.0])
    ahead = target - cameras.centers[1]
    torch.testing.assert_close(ahead / ahead.norm(), cameras.forward[1])
    near = to_load3d(cameras, 1, distance=0.5)["target"]
    near = torch.tensor([near[axis] for axis in "xyz"]) * torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close((near - cameras.centers[1]).norm(), torch.tensor(0.5))


def test_keys_are_collected_in_any_place_with_one_picture_size():
    first, second, third = centred()[[0]], centred()[[1]], centred()[[2]]
    keys = insert_key(insert_key(insert_key(None, first), third), second, place=1)
    assert_same_cameras(keys, centred())
    assert_same_cameras(insert_key(centred()[[1, 2]], first, place=0), centred())
    square = insert_key(first, second.replace(size=(48, 48)))
    assert square.size == SIZE and not torch.allclose(square.K[1], second.K[0])
    with pytest.raises(ValueError, match="expected one camera as a key, got 3"):
        insert_key(None, centred())
    with pytest.raises(ValueError, match="place of a key must be 0 or more"):
        insert_key(first, second, place=-2)


def test_cameras_without_a_size_cannot_give_pixels(tmp_path):
    cameras = reference(None)
    with pytest.raises(ValueError, match="do not know the size of their pictures"):
        to_matrices(cameras)
    with pytest.raises(ValueError, match="do not know the size of their pictures"):
        save_cameras(tmp_path / "new", cameras, "COLMAP")
    with pytest.raises(ValueError, match="unknown format of cameras 'FBX'"):
        save_cameras(tmp_path / "new", cameras, "FBX")
    with pytest.raises(ValueError, match="1 pictures but 3 cameras"):
        save_cameras(tmp_path / "new", cameras, "COLMAP", torch.zeros(1, 3, 8, 8))
    assert not (tmp_path / "new").exists()
    assert_same_cameras(from_matrices(*to_matrices(cameras, SIZE), SIZE), cameras)


def test_wan_takes_whole_groups_of_frames():
    with pytest.raises(ValueError, match=r"Wan takes 4 n \+ 1 frames, got 7 cameras; make the path 9 frames long"):
        to_wan(small.cameras(7), (16, 16))
    with pytest.raises(ValueError, match="scale must be a positive number"):
        to_wan(small.cameras(5), (16, 16), scale=-1.0)
    assert to_wan(small.cameras(5), (16, 32)).shape == (1, 24, 2, 16, 32)


def test_a_path_goes_as_far_for_wan_whatever_its_unit():
    path = small.cameras(5)
    c2w = path.c2w.clone()
    c2w[:, :3, 3] *= 1000
    still = path.replace(c2w=path.c2w[:1].expand(5, 4, 4))
    torch.testing.assert_close(to_wan(path, (16, 16)), to_wan(path.replace(c2w=c2w), (16, 16)))
    assert float(to_wan(still, (16, 16))[:, :12].abs().max()) == 0.0  # no moment without a way


def test_payloads_are_all_read():
    assert {path.stem for path in PAYLOADS.glob("*.json")} == {
        "da3_geometry",
        "load3d_camera_new",
        "load3d_camera_old",
        "load3d_model_info",
    }
    assert isinstance(Cameras.from_dict(from_load3d(payload("load3d_camera_old")).to_dict()), Cameras)
