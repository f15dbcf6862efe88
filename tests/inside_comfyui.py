"""What a test sees of the nodes from inside ComfyUI: `python tests/inside_comfyui.py SOURCE SCENARIO` prints JSON.

A process of its own, as ComfyUI's modules have names that this repository uses too.
"""

import importlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from scenetok_core import DepthHead
from scenetok_core.types import Cameras
from tests import outside, small, small_latents, staged

ROOT = Path(__file__).resolve().parents[1]
PACK = "pack"
CPU = torch.device("cpu")
FRAMES = 6


def enter_comfyui(source):
    """Make ComfyUI's modules importable, on the CPU."""
    sys.path[:] = [source, *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    importlib.import_module("comfy.cli_args").args.cpu = True


def node_module(name):
    """A module of the pack's nodes, imported as ComfyUI does: under another name."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[PACK] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACK])
    return importlib.import_module(f"{PACK}.nodes.{name}")


def placement():
    """What ComfyUI is asked to load while scenes are encoded, rendered and drawn, and whether results are the same."""
    management: Any = importlib.import_module("comfy.model_management")
    managed = node_module("devices").managed
    load, asked = management.load_models_gpu, []

    def record(patchers, memory_required=0, force_full_load=False):
        names = [[type(network).__name__ for network in patcher.model] for patcher in patchers]
        asked.append({"models": names, "bytes": memory_required, "whole": force_full_load})
        load(patchers, memory_required=memory_required, force_full_load=force_full_load)

    def during(work):
        asked.clear()
        result = work()
        return asked.copy(), result

    management.load_models_gpu = record
    plain = staged.model()
    model, generator = managed(plain, CPU, CPU), managed(staged.generator(), CPU, CPU)
    views, path, loads = small.views(), small.cameras(FRAMES), {}
    loads["encode"], scene = during(lambda: model.encode(views))
    loads["render"], frames = during(lambda: model.render(scene, path))
    loads["previews"], _ = during(lambda: model.render(scene, path, steps=1, progress=lambda *call: call[2]()))
    loads["generate"], _ = during(lambda: generator.generate(views[[0]], path, model))
    loads["depth"], same_depth = during(lambda: _same_depth(plain, model, scene, path))
    same_latents = _place_latents(managed, during, loads, views, path)
    management.unload_all_models()  # as ComfyUI does when memory has run out
    again = model.render(scene, path)
    same = torch.equal(frames, plain.render(plain.encode(views), path)) and torch.equal(frames, again)
    return {"loads": loads, "same": same and same_depth and same_latents, "plain place": plain.place.__name__}


def _place_latents(managed, during, loads, views, path):
    """The same of a 3DRAE and a 3DDiT; whether managed ones give what plain ones do."""
    with tempfile.TemporaryDirectory() as folder:
        plain, drawer = small_latents.rae(Path(folder)), small_latents.dit3d(Path(folder))
    model = managed(plain, CPU, CPU)
    loads["fuse"], scene = during(lambda: model.encode(views))
    loads["decode"], frames = during(lambda: model.render(scene, path))
    loads["points"], maps = during(lambda: model.point_maps(scene, path))
    loads["draw"], drawn = during(lambda: managed(drawer, CPU, CPU).generate(views[[0]], path, model))
    pairs = [
        (frames, plain.render(scene, path)),
        (maps.points, plain.point_maps(scene, path).points),
        (drawn.tokens, drawer.generate(views[[0]], path, plain).tokens),
    ]
    return all(torch.equal(managed_result, result) for managed_result, result in pairs)


def _same_depth(plain, model, scene, path):
    """Whether a depth head of a managed model renders what it does on the plain one."""
    with tempfile.TemporaryDirectory() as folder:
        file = small.depth_head(Path(folder) / "head.safetensors", plain)
        head = node_module("devices").load_managed_head(file, model)
        return torch.equal(head.render(scene, path), DepthHead.load(file, plain).render(scene, path))


def previews():
    """When previews were asked for in a minute of steps of 50 ms, by how long a preview takes; in seconds."""
    return {seconds: _preview_times(seconds) for seconds in (0.0, 2.0)}


def _preview_times(seconds):
    now, times = 0.0, []

    def preview():
        nonlocal now
        times.append(now)
        now += seconds
        return torch.zeros(1, 3, 8, 8)

    progress, steps = node_module("sockets").NodeProgress(clock=lambda: now), 1200
    for step in range(steps):
        now += 0.05
        progress(step + 1, steps, preview)
    return times


WAN_LENGTH, WAN_SIZE = 9, (48, 80)  # frames, (height, width)


def wan_embedding():
    """Largest differences from ComfyUI's own Wan embedding: of its camera moves, and of a path that also turns."""
    comfy: Any = importlib.import_module("comfy_extras.nodes_camera_trajectory")
    height, width = WAN_SIZE
    node, told = node_module("interchange_out").CamerasToWan, {}

    def ours(cameras, scale):
        embedding, *numbers = node.execute(cameras.to_dict(), width, height, scale).args
        assert numbers == [width, height, WAN_LENGTH]
        return embedding

    steps = torch.arange(WAN_LENGTH) / WAN_LENGTH
    for move, way in {"Pan Right": (1.0, 0, 0), "Pan Up": (0, -1.0, 0), "Zoom In": (0, 0, 2.0)}.items():
        c2w, K = torch.eye(4).repeat(WAN_LENGTH, 1, 1), torch.eye(3).repeat(WAN_LENGTH, 1, 1)
        c2w[:, :3, 3] = 1.5 * steps[:, None] * torch.tensor(way)
        K[:, (0, 1), (0, 1)], K[:, :2, 2] = 0.6, 0.5
        theirs = comfy.WanCameraEmbedding.execute(move, width, height, WAN_LENGTH, 1.0, 0.6, 0.6).args[0]
        told[move] = _difference(ours(Cameras(c2w, K, (720, 1280)), 1.0), theirs)
    cameras = small.cameras(WAN_LENGTH, WAN_SIZE)
    K = cameras.K.clone()
    K[:, 0, 2], K[:, 1, 2] = 0.45, 0.58
    cameras = cameras.replace(K=K)
    rows = [
        [0, K[0, 0], K[1, 1], K[0, 2], K[1, 2], 0, 0, *pose.flatten()]
        for K, pose in zip(cameras.K.numpy(), cameras.c2w.numpy(), strict=True)
    ]
    sides = {"width": width, "height": height}
    rays = comfy.process_pose_params(rows, **sides, original_pose_width=width, original_pose_height=height)
    rays = torch.cat([rays[:1].expand(4, -1, -1, -1), rays[1:]])  # the first frame fills the first latent
    packed = rays.reshape(-1, 4, height, width, 6).permute(4, 1, 0, 2, 3).reshape(1, 24, -1, height, width)
    told["any"] = _difference(ours(cameras, 1.0), packed)
    return told


def _difference(ours, theirs):
    assert ours.shape == theirs.shape == (1, 24, (WAN_LENGTH + 3) // 4, *WAN_SIZE)
    assert ours.dtype == theirs.dtype
    return float((ours - theirs).abs().max())


def depth_anything():
    """What the node makes of a recorded DA3_GEOMETRY, for which this ComfyUI may have no nodes."""
    images, cameras = node_module("interchange").CamerasFromDA3.execute(outside.depth_anything_payload()).args
    return {"images": list(images.shape), "size": cameras["size"], "c2w": cameras["c2w"].tolist()}


if __name__ == "__main__":
    enter_comfyui(sys.argv[1])
    scenarios = {
        "placement": placement,
        "previews": previews,
        "cameras": lambda: {"wan": wan_embedding(), "depth anything": depth_anything()},
    }
    print(json.dumps(scenarios[sys.argv[2]]()))  # noqa: T201
