"""Many prompts at once, some cancelled and some broken, on a real ComfyUI server."""

from benchmarks.server_load import put_load
from scripts.api_client import changed


def test_all_but_the_cancelled_and_the_broken_finish_and_memory_comes_back(comfy, prompt):
    settings = {"SceneTok_RenderTrajectory.steps": 20, "SceneTok_RenderTrajectory.seed": 999}
    load = put_load(comfy, changed(prompt, settings), good=8, cancelled=2, bad=5, seed=3)
    assert load.lost == []
    assert (load.failed, load.refused) == (2, 3)
    assert load.cancelled in (1, 2), "the one that is cancelled while it runs may be done by then"
    assert load.finished == 8 - load.cancelled
    assert load.passed, f"{load.first_mib:.0f} MiB after the first prompt, {load.last_mib:.0f} after all"
