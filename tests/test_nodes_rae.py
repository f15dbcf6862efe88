"""3DRAE and 3DDiT in the same nodes as SceneTok and SceneGen, through a real ComfyUI server."""

import pytest
import torch
from PIL import Image

from scenetok_core import open_capture, open_model
from scenetok_core.pictures.sheets import to_tensor
from scenetok_core.pictures.video import read_video_frames
from scenetok_core.trajectories import make_trajectory
from scenetok_core.weights.checkpoints import load_scene
from tests import small, small_latents
from tests.engine.workflows import edited
from tests.served import ENCODE, FRAMES, LOAD, PATH, RENDER, SAVE, VIDEO, VIEW, VIEWS, saved_file, write_capture
from tests.test_point_files import read_points

OTHER, PICTURES, DRAW, NODE, SHOWN, GENERATOR, FEW = "20", "21", "22", "23", "24", "25", "26"
WIDE = (12, 20)  # height, width
OPEN = {"min_confidence": 0.0, "edge": 0.0, "agree": 0.0, "voxel": 0.0}  # filters of a random model
LEVELS = 1 / 255
OWN_POINTS = "the model's own point maps"


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def rae(comfy):
    """A small 3DRAE, with one without points and a 3DDiT beside it in the server's model folder."""
    folder = comfy.folder("models", "scenetok")
    small_latents.rae_checkpoint(folder, "flat-rae.safetensors", points=None)
    small_latents.dit3d_checkpoint(folder)
    return open_model(small_latents.rae_checkpoint(folder))


@pytest.fixture
def wide(comfy):
    folder = comfy.folder("input", "wide")
    if not (folder / "transforms.json").exists():
        write_capture(folder, size=WIDE)
    return "wide"


@pytest.fixture
def graph(prompt, rae):
    """The shipped graph with another file in the loader, and its frames saved."""
    changed = edited(prompt, SceneTok_LoadModel={"model": "small-rae.safetensors", "dtype": "fp32"})
    return {**changed, PICTURES: node("SaveImage", images=[RENDER, 0], filename_prefix="rae/frame")}


def succeeded(done):
    assert done.status == "execution_success", done.error
    return done


def saved_pictures(comfy, done, node_id=PICTURES):
    files = [saved_file(comfy, listed) for listed in done.outputs[node_id]["images"]]
    return torch.stack([to_tensor(Image.open(file).convert("RGB")) for file in files])


def only(prompt, *kept, **more):
    return {**{key: prompt[key] for key in kept}, **more}


def test_another_file_in_the_loader_is_all_that_changes(comfy, run, graph, rae, capture):
    done = succeeded(run(edited(graph, SceneTok_RenderTrajectory={"quality": "best", "views_per_pass": 3})))
    scene = load_scene(saved_file(comfy, done.outputs[SAVE]["scenes"][0]))
    assert (scene.family, scene.preset, scene.model_hash) == ("3drae", "small-rae", rae.hash)
    views = open_capture(comfy.folder("input", capture)).load()
    path = make_trajectory("follow", views.cameras, FRAMES, smoothing=graph[PATH]["inputs"]["smoothing"])
    expected = rae.render(rae.encode(views), path)
    torch.testing.assert_close(saved_pictures(comfy, done), expected, rtol=0, atol=LEVELS)
    progress = [data for data in done.of_type("progress") if data["node"] == RENDER]
    assert progress[-1]["value"] == progress[-1]["max"] == FRAMES and done.previews


def test_pictures_keep_their_proportions(comfy, run, graph, wide):
    done = succeeded(run(edited(graph, SceneTok_LoadViews={"capture": wide, "size": 0})))
    assert saved_pictures(comfy, done).shape == (FRAMES, 3, *WIDE)
    frames, _ = read_video_frames(saved_file(comfy, done.outputs[VIDEO]["images"][0]))
    assert frames.shape[-2] / frames.shape[-1] == pytest.approx(WIDE[0] / WIDE[1])


def test_a_saved_scene_keeps_its_family_and_renders_again(comfy, run, graph, rae):
    graph = edited(graph, SceneTok_SaveTokens={"filename_prefix": "scenes/latents"})
    done = succeeded(run(graph))
    listed = f"scenes/{done.outputs[SAVE]['scenes'][0]['filename']} [output]"
    load = {ENCODE: node("SceneTok_LoadTokens", scene=listed), NODE: node("SceneTok_SceneInfo", tokens=[ENCODE, 0])}
    again = succeeded(run({**graph, **load, SHOWN: node("PreviewAny", source=[NODE, 0])}))
    assert f"model: small-rae (3drae, weights {rae.hash})" in again.outputs[SHOWN]["text"][0]
    differences = saved_pictures(comfy, again) - saved_pictures(comfy, done)
    assert differences.abs().max() < 5 * LEVELS, "tokens are stored in bfloat16"


def test_the_scene_is_followed_and_checked_like_any_other(comfy, run, graph, wide):
    check = {"rounds": 2, "alternatives": False, "scene_scale": 0.0}
    transfer = {"path": [VIEW, 1], "tokens": [ENCODE, 0], "scale": 0.0, "reference": -1}
    graph = edited(graph, SceneTok_LoadViews={"capture": wide, "size": 0})
    graph[PATH] = node("SceneTok_TransferTrajectory", **transfer)
    graph[NODE] = node("SceneTok_LeaveOneOut", model=[LOAD, 0], images=[VIEW, 0], cameras=[VIEW, 1], **check)
    graph[SHOWN] = node("PreviewAny", source=[NODE, 1])
    done = succeeded(run(graph))
    assert saved_pictures(comfy, done).shape == (VIEWS, 3, *WIDE)
    assert "PSNR of 4 hidden views" in done.outputs[SHOWN]["text"][0]


@pytest.mark.parametrize(
    ("first", "second"),
    [("small.safetensors", "small-rae.safetensors"), ("small-rae.safetensors", "small.safetensors")],
)
def test_tokens_of_one_family_are_refused_by_the_other(run, graph, first, second):
    mixed = edited(graph, SceneTok_LoadModel={"model": first}, SceneTok_RenderTrajectory={"model": [OTHER, 0]})
    mixed[OTHER] = node("SceneTok_LoadModel", model=second, dtype="auto")
    error = run(mixed).error
    assert "'scenetok'" in error and "'3drae'" in error
    assert f"load '{first.removesuffix('.safetensors')}', or encode the views again" in error


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("SceneTok_TokenMask", {"mode": "first", "count": 3, "seed": 0, "list": "0", "invert": False}, "fixed order"),
        ("SceneTok_TokenSweep", {"counts": "50%", "order": "first", "seed": 0}, "none can be left out"),
        ("SceneTok_RenderUncertainty", {"samples": 2, "white": 0.2}, "the same picture from any noise"),
    ],
)
def test_what_these_latents_cannot_do_is_refused_with_the_reason(run, graph, kind, inputs, message):
    if kind == "SceneTok_RenderUncertainty":
        sampling = {"steps": 0, "guidance": 0.0, "seed": 0}
        inputs = {**inputs, **sampling, "model": [LOAD, 0], "cameras": [PATH, 0]}
    shown = (
        {"preview": "PreviewImage", "key": "images"}
        if "white" in inputs
        else {"preview": "PreviewAny", "key": "source"}
    )
    graph = only(graph, LOAD, VIEW, ENCODE, PATH)
    graph[NODE] = node(kind, tokens=[ENCODE, 0], **inputs)
    graph[SHOWN] = node(shown["preview"], **{shown["key"]: [NODE, 0]})
    assert message in run(graph).error


@pytest.fixture
def drawing(graph):
    """No view and a path -> two saved scenes."""
    sampling = {"steps": 2, "guidance": 0.0, "shift": 0.0, "scene_scale": 0.0, "seed": 0, "scenes": 2}
    return {
        **only(graph, LOAD, VIEW, PATH),
        GENERATOR: node("SceneTok_LoadGenerator", generator="small-dit3d.safetensors", dtype="fp32"),
        DRAW: node("SceneTok_SceneGenSample", generator=[GENERATOR, 0], model=[LOAD, 0], path=[PATH, 0], **sampling),
        SAVE: node("SceneTok_SaveTokens", tokens=[DRAW, 0], filename_prefix="scenes/drawn-latents"),
        RENDER: node(
            "SceneTok_RenderTrajectory", model=[LOAD, 0], tokens=[DRAW, 0], cameras=[PATH, 0], steps=0, guidance=0.0,
            seed=0, fps=24.0,
        ),
        PICTURES: node("SaveImage", images=[RENDER, 0], filename_prefix="rae/drawn"),
    }  # fmt: skip


def with_views(drawing, count):
    """The same from the first views of the capture."""
    chosen = edited(drawing, SceneTok_SceneGenSample={"images": [VIEW, 0], "cameras": [VIEW, 1]})
    return edited(chosen, SceneTok_LoadViews={"max_views": count})


@pytest.mark.parametrize("count", [0, 1, 3])
def test_scenes_are_drawn_from_no_one_and_several_views(comfy, run, drawing, rae, count):
    done = succeeded(run(with_views(drawing, count) if count else drawing))
    scenes = [load_scene(saved_file(comfy, listed)) for listed in done.outputs[SAVE]["scenes"]]
    assert [scene.meta["views_given"] for scene in scenes] == [count, count]
    assert {(scene.family, scene.model_hash) for scene in scenes} == {("3drae", rae.hash)}
    assert not torch.equal(scenes[0].tokens, scenes[1].tokens)
    assert saved_pictures(comfy, done).shape == (2 * FRAMES, 3, small.IMAGE, small.IMAGE)
    second = succeeded(
        run(edited(with_views(drawing, count) if count else drawing, SceneTok_SceneGenSample={"seed": 1}))
    )
    again = load_scene(saved_file(comfy, second.outputs[SAVE]["scenes"][0]))
    assert torch.equal(again.tokens, scenes[1].tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SceneTok_SceneGenSample": {"images": [VIEW, 0]}}, "cameras is not connected; connect both"),
        ({"SceneTok_SceneGenSample": {"cameras": [VIEW, 1]}}, "images is not connected; connect both"),
        (
            {"SceneTok_SceneGenSample": {"images": [VIEW, 0], "cameras": [VIEW, 1]}},
            "takes 0 to 4 views beside the path",
        ),
        ({"SceneTok_LoadModel": {"model": "small.safetensors"}}, "draws tokens of family '3drae'"),
        ({"SceneTok_LoadGenerator": {"generator": "generator.safetensors"}}, "draws tokens of family 'scenetok'"),
        (
            {
                "SceneTok_LoadModel": {"model": "small.safetensors"},
                "SceneTok_LoadGenerator": {"generator": "generator.safetensors"},
            },
            "draws scenes around 1 to 3 views and got none; connect pictures with their cameras",
        ),
    ],
)
def test_what_a_generator_cannot_draw_from_is_told(run, drawing, changes, message):
    assert message in run(edited(drawing, **changes)).error


def depth(graph, **loader):
    """Depth along the path, as pictures and as points."""
    measured = {"steps": 0, "samples": 1, "min_confidence": 0.5, "seed": 0}
    filters = {**OPEN, "max_points": 100000, "axes": "input", "glb": False, "filename_prefix": "points/maps"}
    return {
        **only(graph, LOAD, VIEW, ENCODE, PATH, RENDER),
        "30": node("SceneTok_LoadDepthHead", **{"model": [LOAD, 0], "depth_head": OWN_POINTS, **loader}),
        "31": node(
            "SceneTok_DepthHead", depth_head=["30", 0], tokens=[ENCODE, 0], cameras=[PATH, 0], images=[RENDER, 0],
            **measured,
        ),
        "32": node("SceneTok_PointCloud", geometry=["31", 4], **filters),
        PICTURES: node("SaveImage", images=["31", 0], filename_prefix="rae/depth"),
        "33": node("MaskToImage", mask=["31", 3]),
        "34": node("SaveImage", images=["33", 0], filename_prefix="rae/confidence"),
    }  # fmt: skip


def test_a_models_own_point_maps_give_depth_and_points(comfy, run, graph, rae, wide):
    done = succeeded(run(edited(depth(graph), SceneTok_LoadViews={"capture": wide, "size": 0})))
    views = open_capture(comfy.folder("input", wide)).load()
    path = make_trajectory("follow", views.cameras, FRAMES, smoothing=graph[PATH]["inputs"]["smoothing"])
    maps = rae.point_maps(rae.encode(views), path)
    confidence = saved_pictures(comfy, done, "34")[:, 0]
    torch.testing.assert_close(confidence, 1 - 1 / maps.confidence, rtol=0, atol=LEVELS)
    assert saved_pictures(comfy, done).shape == (FRAMES, 3, *WIDE)
    cloud = read_points(saved_file(comfy, done.outputs["32"]["3d"][0]))
    assert len(cloud.vertices) == int((maps.depth > 0).sum())


@pytest.mark.parametrize(
    ("model", "loader", "message"),
    [
        ("small.safetensors", {}, "has no point maps of its own; choose a depth head"),
        ("flat-rae.safetensors", {}, "was trained without point maps"),
        ("small-rae.safetensors", {"depth_head": "generator.safetensors"}, "depth heads are for SceneTok models"),
    ],
)
def test_depth_that_a_model_does_not_have_is_refused(run, graph, model, loader, message):
    assert message in run(edited(depth(graph, **loader), SceneTok_LoadModel={"model": model})).error


def test_loaders_list_the_families_they_load_and_begin_with_scenetok(object_info, rae):
    assert rae.config.family == "3drae", "the small models are in the server's folder"
    models = object_info["SceneTok_LoadModel"]["input"]["required"]["model"][1]["options"]
    generators = object_info["SceneTok_LoadGenerator"]["input"]["required"]["generator"][1]["options"]
    assert {"small.safetensors", "small-rae.safetensors"} <= set(models)
    assert not {"generator.safetensors", "small-dit3d.safetensors", "depth-tiny.safetensors"} & set(models)
    assert models.index("scenetok-tiny.safetensors") < models.index("small-rae.safetensors")
    assert {"generator.safetensors", "small-dit3d.safetensors"} <= set(generators)
    assert not {"small.safetensors", "small-rae.safetensors"} & set(generators)
    heads = object_info["SceneTok_LoadDepthHead"]["input"]["required"]["depth_head"][1]["options"]
    assert heads[-1] == OWN_POINTS != heads[0]
