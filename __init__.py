"""SceneTok for ComfyUI: posed photographs -> scene tokens -> any camera path.

Nothing of ComfyUI is imported here at module level, so that tests and tools can import the repository without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import SceneTokExtension

OLDEST_COMFYUI = "0.3.64"
WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> SceneTokExtension:
    """Called once by ComfyUI when it loads the pack."""
    try:
        from comfy_api.latest import ComfyExtension, InputImpl, Types, io, ui  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"SceneTok needs ComfyUI {OLDEST_COMFYUI} or newer, please update ComfyUI ({error})"
        ) from error
    from .nodes import SceneTokExtension

    return SceneTokExtension()
