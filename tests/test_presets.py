"""The released models as data against the recorded names and shapes of their checkpoints, and their recognition."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from scenetok_core.configs import SceneGenConfig, from_dict, to_dict
from scenetok_core.weights.checkpoints import build_networks
from scenetok_core.weights.presets import PRESETS, fit_preset, model_tensors, recognise

RELEASED = Path(__file__).parent / "released_parameters.json"
MODELS: Any = PRESETS  # each test knows which kind its models are
POSITIONS = ("freqs_cos", "freqs_sin", "pose_embed.model.model.pos_embed")


def released(preset):
    """Names and shapes of a released checkpoint; `blocks.0-23.` stands for 24 blocks, a text for another file."""
    files = json.loads(RELEASED.read_text(encoding="utf-8"))
    entry = files[f"{preset}.ckpt"]
    shapes = {}
    for name, shape in (files[entry] if isinstance(entry, str) else entry).items():
        span = re.search(r"\.(\d+)-(\d+)\.", name)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
        for number in numbers:
            shapes[name if span is None else name.replace(span[0], f".{number}.")] = tuple(shape)
    return shapes


def built(config):
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_networks(config).state_dict().items()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_preset_has_exactly_the_released_parameters(name):
    want = {key: shape for key, shape in released(name).items() if not key.endswith(POSITIONS)}
    assert built(MODELS[name]) == want
    assert model_tensors(released(name)) == want


def test_every_recorded_checkpoint_has_a_preset():
    assert {file.removesuffix(".ckpt") for file in json.loads(RELEASED.read_text(encoding="utf-8"))} == set(MODELS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_released_shapes_are_recognised(name):
    fits = recognise(released(name))
    assert MODELS[name] in fits
    assert recognise(model_tensors(released(name)))[0] == fits[0], "position tables are not needed for released sizes"


def test_what_shapes_cannot_tell_is_listed():
    names = {name: [config.name for config in recognise(released(name))] for name in MODELS}
    re10k, generators = ["va-videodc_re10k", "va-videodc_re10k_scene"], [f"scenegen_shift{s}_re10k" for s in (1, 4, 12)]
    assert names.pop("va-videodc_re10k") == re10k
    assert names.pop("va-videodc_re10k_scene") == re10k[::-1]
    assert [names.pop(name) for name in generators] == [generators] * 3
    assert names == {name: [name] for name in ("va-videodc_dl3dv", "va-wan_dl3dv")}


def test_quirks_belong_to_presets():
    wan, dl3dv, re10k = (MODELS[name] for name in ("va-wan_dl3dv", "va-videodc_dl3dv", "va-videodc_re10k"))
    factors = (15.0, 8.4375)
    assert (wan.context_focal, wan.target_focal) == (factors, (1.0, 1.0))
    assert (dl3dv.context_focal, dl3dv.target_focal) == (factors, factors)
    assert (re10k.context_focal, re10k.target_focal) == ((1.0, 1.0), (1.0, 1.0))
    assert (wan.decoder.ray_order, wan.decoder.rope_group) == ("ph pw t c", 5)
    assert [config.sampling.shift for config in (re10k, dl3dv, wan)] == [1.0, 8.0, 4.0]
    assert (wan.sampling.window, wan.sampling.clean_targets) == (10, 5)
    assert [MODELS[f"scenegen_shift{shift}_re10k"].sampling.shift for shift in (1, 4, 12)] == [1.0, 4.0, 12.0]


def test_presets_are_frozen_and_survive_json():
    for name, config in MODELS.items():
        assert config.name == name
        assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(TypeError):
        MODELS["mine"] = MODELS["va-wan_dl3dv"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODELS["va-wan_dl3dv"].image_size = 512


def small_wan():
    wan, shared = MODELS["va-wan_dl3dv"], {"token_dim": 16, "ray_map": 64}
    return dataclasses.replace(
        wan,
        image_size=128,
        compressor=dataclasses.replace(wan.compressor, hidden=128, heads=2, depth=3, tokens=24, **shared),
        decoder=dataclasses.replace(wan.decoder, hidden=64, heads=1, depth=2, **shared),
        name="like va-wan_dl3dv",
    )


def small_generator():
    like = MODELS["scenegen_shift1_re10k"]
    sizes = {"hidden": 64, "heads": 1, "depth": 2, "tokens": 24, "token_dim": 16, "ray_map": 64}
    return dataclasses.replace(
        like, image_size=128, generator=dataclasses.replace(like.generator, **sizes), name=f"like {like.name}"
    )


@pytest.mark.parametrize("null_tokens", [True, False])
def test_other_sizes_are_read_from_the_tensors(null_tokens):
    want = small_wan()
    want = dataclasses.replace(want, decoder=dataclasses.replace(want.decoder, null_tokens=null_tokens))
    assert recognise({**built(want), "compressor.feat_rope.freqs_cos": (16, 64)}) == [want]
    generator = small_generator()
    positions = {"scene_generator.pose_embed.model.model.pos_embed": (1, 64 * 64, 64)}
    assert recognise({**built(generator), **positions})[0] == generator


def test_one_wrong_shape_does_not_decide_the_sizes():
    preset = MODELS["va-videodc_re10k"]
    fits: Any = recognise
    for name in ("compressor.scene_tokens", "denoiser.cnd_proj.weight", "denoiser.model.x_embedder.proj.weight"):
        shapes = released(preset.name)
        shapes[name] = (*shapes[name][:-2], 64, 64)
        fitted = fits(shapes)[0]
        hidden = (fitted.compressor.hidden, fitted.decoder.hidden)
        assert hidden == (preset.compressor.hidden, preset.decoder.hidden)
    assert recognise({"denoiser.null_tokens": ()})[0].name == "va-videodc_re10k"
    without: Any = fit_preset(preset, {})
    assert without.decoder.null_tokens is False


def test_a_frozen_compressor_beside_a_generator_is_left_out():
    shapes = {**released("scenegen_shift4_re10k"), **released("va-videodc_re10k_scene"), "autoencoder.weight": (1,)}
    assert isinstance(recognise(shapes)[0], SceneGenConfig)
    assert all(name.startswith("scene_generator.") for name in model_tensors(shapes))


def test_foreign_tensors_are_refused():
    with pytest.raises(
        ValueError, match=r"no SceneTok model: none of its 1 tensors .* scene_generator\., compressor\."
    ):
        recognise({"model.weight": (1,)})
