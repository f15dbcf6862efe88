"""Files that describe themselves, load strictly and never run code."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenetok_core.autoencoders import LatentSpec
from scenetok_core.configs import SamplingConfig, SceneTokConfig, from_dict, to_dict
from scenetok_core.types import SceneTokens
from scenetok_core.weights.checkpoints import (
    load_checkpoint,
    load_networks,
    load_scene,
    model_hash,
    read_tensors,
    save_checkpoint,
    save_scene,
)
from tests import small

KIB, MIB = 1024, 1024**2


def scene(tokens=512, dim=64):
    values = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(0))
    cameras = small.cameras(3).replace(names=("a.jpg", "b.jpg", "ü.jpg"), unit="metric")
    return SceneTokens(
        values, cameras.c2w[1], 0.7, cameras, "small", "0123456789abcdef", meta={"views_used": [0, 1, 2]}
    )


def test_checkpoint_round_trip(tmp_path):
    config, state = small.config(), small.state()
    path = tmp_path / "new folder" / "model.safetensors"
    save_checkpoint(path, state, config, {"training": "notes"})
    got, got_config, metadata = load_checkpoint(path)
    assert got_config == config
    assert metadata["training"] == "notes"
    assert metadata["model_hash"] == model_hash(state)
    assert got.keys() == state.keys() and all(torch.equal(got[k], state[k]) for k in state)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_hash_depends_on_values_names_and_shapes():
    state = {"a": torch.zeros(4), "b": torch.ones(())}
    hashes = {
        model_hash(s)
        for s in (
            state,
            {**state, "a": torch.zeros(2, 2)},
            {**state, "b": torch.zeros(())},
            {"c": state["a"], "b": state["b"]},
        )
    }
    assert len(hashes) == 4
    assert model_hash(dict(reversed(state.items()))) == model_hash(state)


def test_scene_round_trip_and_size(tmp_path):
    path = tmp_path / "scene.safetensors"
    mask = torch.arange(512) % 2 == 0
    given = scene().replace(mask=mask)
    save_scene(path, given)
    back = load_scene(path)
    assert torch.equal(back.tokens, given.tokens.bfloat16().float())
    assert back.mask is not None and torch.equal(back.mask, mask)
    assert torch.equal(back.reference_c2w, given.reference_c2w)
    assert torch.equal(back.cameras.c2w, given.cameras.c2w)
    assert (back.cameras.names, back.cameras.unit, back.cameras.size) == (
        ("a.jpg", "b.jpg", "ü.jpg"),
        "metric",
        (16, 16),
    )
    assert (back.scene_scale, back.preset, back.model_hash, back.meta) == (0.7, "small", given.model_hash, given.meta)
    assert 64 * KIB < path.stat().st_size < 68 * KIB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, plain: tensors.pop("tokens"), "tensor 'tokens' missing"),
        (lambda tensors, plain: tensors.pop("cameras.K"), "tensor 'cameras.K' missing"),
        (lambda tensors, plain: plain.clear(), "metadata 'scene' 'scene_scale', metadata 'scene' 'cameras' missing"),
        (lambda tensors, plain: plain.update(cameras=3), "no complete scene"),
        (lambda tensors, plain: plain["cameras"].update(size=[4]), "no complete scene"),
        (lambda tensors, plain: plain.update(scene_scale=None), "no complete scene"),
        (lambda tensors, plain: plain.update(scene_scale=-1.0), "scene_scale must be"),
        (lambda tensors, plain: tensors["tokens"].fill_(float("nan")), "tokens hold NaN"),
    ],
)
def test_incomplete_scenes_are_refused_by_name(tmp_path, change, message):
    path = tmp_path / "scene.safetensors"
    save_scene(path, scene())
    tensors, metadata = read_tensors(path)
    plain = json.loads(metadata["scene"])
    change(tensors, plain)
    save_file(tensors, path, {**metadata, "scene": json.dumps(plain)})
    with pytest.raises(ValueError, match=message) as error:
        load_scene(path)
    assert str(error.value).startswith("scene.safetensors is no complete scene: ")


def test_scene_metadata_that_is_absent_or_broken_is_refused(tmp_path):
    path = tmp_path / "scene.safetensors"
    save_scene(path, scene())
    tensors, metadata = read_tensors(path)
    for text in (None, "{", "[]", "7"):
        save_file(tensors, path, {"format": metadata["format"]} | ({} if text is None else {"scene": text}))
        with pytest.raises(ValueError, match=r"scene\.safetensors is no complete scene"):
            load_scene(path)


def test_weights_that_were_changed_after_writing_are_refused(tmp_path):
    path = small.checkpoint(tmp_path)
    tensors, metadata = read_tensors(path)
    tensors["denoiser.cnd_proj.bias"][0] += 1
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=f"changed after it was written: .* {model_hash(tensors)}, .* says"):
        load_checkpoint(path)
    without = {name: text for name, text in metadata.items() if name != "model_hash"}
    save_file(tensors, path, without)
    assert load_checkpoint(path)[2]["model_hash"] == model_hash(load_file(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("compressor.scene_tokens"), "1 missing: compressor.scene_tokens"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "1 unexpected: extra.weight"),
        (
            lambda s: s.update({"denoiser.cnd_proj.bias": torch.zeros(3)}),
            r"1 mis-shaped: denoiser.cnd_proj.bias is \[3\], expected \[32\]",
        ),
        (lambda s: [s.pop(k) for k in list(s)[:9]], r"9 missing: ([^,]+, ){4}[^,]+ \.\.\."),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message):
    state = dict(small.state())
    change(state)
    with pytest.raises(ValueError, match=message) as error:
        load_networks(state, small.config("some-preset"))
    assert "'some-preset'" in str(error.value)


def test_loaded_networks_are_frozen_and_in_the_asked_dtype():
    networks = load_networks(small.state(), small.config(), torch.bfloat16)
    assert {p.dtype for p in networks.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in networks.parameters())
    assert not networks.training


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = small.checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        load_checkpoint(path)


class _RunsCode:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return (open, (self.trap, "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    path, trap = tmp_path / "model.ckpt", tmp_path / "trap"
    payload = {"state_dict": {"a": torch.zeros(1)}, "callbacks": _RunsCode(str(trap))}
    if zipped:
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(ValueError, match="not loaded, because that could run code"):
        load_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02K", b"\x80\x02c\n\n.", b"PK\x03\x04", b"\xff" * 64],
)
def test_any_damaged_pickle_is_refused_in_the_same_words(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="or is damaged; it was not loaded"):
        load_checkpoint(path)


def test_a_large_pickle_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "model.ckpt"
    with path.open("wb") as file:
        file.truncate(8 * 1024 * MIB)  # sparse
    with pytest.raises(ValueError, match=r"model\.ckpt is a pickled file; it was not loaded"):
        load_checkpoint(path)


def test_a_plain_pickle_without_configuration_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="without a model configuration"):
        read_tensors(path)


def test_scene_and_checkpoint_are_not_confused(tmp_path):
    model = small.checkpoint(tmp_path)
    save_scene(tmp_path / "scene.safetensors", scene())
    with pytest.raises(ValueError, match="a saved scene, not a model"):
        load_checkpoint(tmp_path / "scene.safetensors")
    with pytest.raises(ValueError, match="a model checkpoint, not a scene"):
        load_scene(model)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="no SceneTok checkpoint"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_configurations_are_read_strictly():
    plain = json.loads(json.dumps(to_dict(small.config())))
    assert from_dict(SceneTokConfig, plain) == small.config()
    for change, message in [
        ({"widht": 3}, "unknown setting widht; known here: name, image_size"),
        ({"image_size": "64"}, "image_size must be int, got '64'"),
        ({"compressor": {"hiden": 3}}, "unknown setting compressor.hiden"),
        ({"context_focal": [1.0]}, "context_focal must have 2 entries"),
        ({"sampling": {"schedule": "spiral"}}, "sampling.schedule must be one of"),
        ({"sampling": {"solver": "heun"}}, "sampling.solver must be one of .'euler', 'ab2'., got 'heun'"),
        ({"compressor": {"hidden": 30, "heads": 4}}, "must divide by heads"),
        ({"compressor": {"heads": 0}}, "compressor.heads must be positive, got 0"),
        ({"decoder": {"ray_patch": 0}}, "decoder.ray_patch must be positive, got 0"),
        ({"decoder": {"mlp_ratio": float("nan")}}, "decoder.mlp_ratio must be positive"),
        ({"decoder": {"rope_group": 0}}, "decoder.rope_group must be positive"),
        ({"image_size": 0}, "image_size must be positive"),
        ({"context_focal": [1.0, 0.0]}, "context_focal and target_focal must be positive"),
        ({"sampling": {"steps": 0}}, "sampling.steps must be positive"),
        ({"sampling": {"window": 4, "clean_targets": 4}}, "clean_targets must be .* less than window 4, got 4"),
        ({"sampling": {"steps": 3, "uncertainty": 4}}, "uncertainty must be between 0 and steps 3, got 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_dict(SceneTokConfig, {**plain, **change})
    with pytest.raises(ValueError, match="setting name is missing"):
        from_dict(SceneTokConfig, {})


def test_a_configuration_from_before_a_setting_existed_is_read(tmp_path):
    path = small.checkpoint(tmp_path)
    tensors, metadata = read_tensors(path)
    plain = json.loads(metadata["config"])
    del plain["sampling"]["uncertainty"], plain["sampling"]["solver"]
    save_file(tensors, path, {**metadata, "config": json.dumps(plain)})
    assert load_checkpoint(path)[1].sampling == SamplingConfig(steps=3, window=4, clean_targets=1, uncertainty=1)


def test_pictures_autoencoders_patches_and_ray_maps_must_agree():
    config = small.config()
    spec = LatentSpec(channels=3 * small.PATCH**2, spatial=small.PATCH)
    config.check_latents(spec, spec)
    for context, target, message in [
        (LatentSpec(spec.channels, 8), spec, "image_size 16 does not fit the compressor: 'patch-4' makes .* 8 pixels"),
        (spec, LatentSpec(spec.channels, 8), "image_size 16 does not fit the decoder.* 4 tokens a side, 32 pixels"),
        (LatentSpec(7, small.PATCH), spec, "compressor.latent_channels 48 differs from the 7 channels of 'patch-4'"),
        (spec, LatentSpec(spec.channels, small.PATCH, 4, 4), "decoder.frames_per_latent 1 differs from the 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            config.check_latents(context, target)
