"""Checkpoints of other forms -> safetensors: nothing is run, the networks compute the same, faults are named."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch._utils
from safetensors.torch import save_file

from scenetok_core.cli import main
from scenetok_core.configs import SceneGenConfig, SceneTokConfig
from scenetok_core.models.networks import sample_latents
from scenetok_core.models.scenegen import sample_tokens
from scenetok_core.sampling import make_schedule
from scenetok_core.weights.checkpoints import (
    build_networks,
    load_checkpoint,
    load_networks,
    read_tensors,
    save_checkpoint,
)
from scenetok_core.weights.convert import convert_checkpoint, file_hash
from scenetok_core.weights.pickles import read_pickled
from scenetok_core.weights.presets import PRESETS
from tests import small

BAD_INPUT = 2
RAY_MAP, TOKENS, TOKEN_DIM, HIDDEN = 64, 6, 8, 64
CELLS = RAY_MAP // 16


def small_config(name="va-videodc_re10k", null_tokens=True):
    like: Any = PRESETS[name]
    sizes = {"hidden": HIDDEN, "heads": 1, "depth": 2, "token_dim": TOKEN_DIM, "ray_map": RAY_MAP}
    return dataclasses.replace(
        like,
        name=f"like {name}",
        image_size=128,
        compressor=dataclasses.replace(like.compressor, tokens=TOKENS, **sizes),
        decoder=dataclasses.replace(like.decoder, null_tokens=null_tokens, **sizes),
    )


def small_generator():
    like: Any = PRESETS["scenegen_shift4_re10k"]
    sizes = {"hidden": HIDDEN, "heads": 1, "depth": 2, "tokens": TOKENS, "token_dim": TOKEN_DIM, "ray_map": RAY_MAP}
    generator = dataclasses.replace(like.generator, **sizes)
    return dataclasses.replace(like, name=f"like {like.name}", image_size=128, generator=generator)


def state_of(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_networks(config).state_dict()


def lightning(state, extra=None):
    """What a training tool writes around the tensors, with position tables and a frozen autoencoder among them."""
    cells = {"compressor.feat_rope.freqs_cos": torch.rand(CELLS**2, 64)}
    rays = {"scene_generator.pose_embed.model.model.pos_embed": torch.rand(1, RAY_MAP**2, HIDDEN)}
    tables = rays if any(name.startswith("scene_generator.") for name in state) else cells
    frozen = {"autoencoder.encoder.weight": torch.rand(3), "step": torch.tensor(7)}
    return {
        "epoch": 3,
        "state_dict": OrderedDict({**state, **tables, **frozen}),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(5)}}}],
        "callbacks": extra or {},
    }


class Settings(dict):
    """Stands for the settings objects that training tools pickle: torch's own safe reader refuses its class."""


class RunsCode:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return (os.mkdir, (self.trap,))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rendered(networks, guidance=1.0):
    config = networks.denoiser.config
    latents, rays = draw(1, 2, 32, 2 * CELLS, 2 * CELLS), draw(1, 2, 6, RAY_MAP, RAY_MAP, seed=1)
    tokens = networks.compressor(latents, rays).mean
    packed = draw(1, 2, config.frames_per_latent, 6, RAY_MAP, RAY_MAP, seed=2)
    noise = draw(1, 2, config.latent_channels, CELLS, CELLS, seed=3)
    schedule = make_schedule("full_sequence", horizon=2, steps=2, window=2, clean_targets=1)
    return sample_latents(networks.denoiser, tokens, packed, noise, schedule, guidance=guidance)


def generated(networks):
    model, side = networks.scene_generator, RAY_MAP // 8
    rays = (draw(1, 1, 6, RAY_MAP, RAY_MAP, seed=1), draw(1, 3, 6, RAY_MAP, RAY_MAP, seed=2))
    conditioning = model.condition(draw(1, 1, 32, side, side), *rays)
    schedule = make_schedule("full_sequence", horizon=1, steps=2, window=1, clean_targets=0)
    return sample_tokens(model, conditioning, draw(1, TOKENS, TOKEN_DIM, seed=3), schedule, guidance=3.0)


def assert_same(a, b):
    """Equal up to rounding: weights read from a file lie elsewhere in memory, and sums then run in another order."""
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("extra", [None, Settings(lr=1.0)], ids=["tensors only", "with objects"])
def test_a_released_checkpoint_computes_the_same_after_conversion(tmp_path, extra):
    config = small_config()
    state, source, target = state_of(config), tmp_path / "any name.ckpt", tmp_path / "new" / "out.safetensors"
    torch.save(lightning(state, extra), source)
    reports = []
    configs = convert_checkpoint(
        source, target, dtype=torch.float32, progress=lambda done, total: reports.append((done, total))
    )
    assert configs[0] == config
    tensors, got, metadata = load_checkpoint(target)
    assert got == config and tensors.keys() == state.keys()
    assert_same(rendered(load_networks(tensors, got), 2.0), rendered(load_networks(state, config), 2.0))
    assert metadata["source"] == "any name.ckpt"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert reports[-1] == (source.stat().st_size,) * 2
    assert [path.name for path in target.parent.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("extra", [None, Settings(lr=1.0)], ids=["tensors only", "with objects"])
def test_a_scene_generator_computes_the_same_after_conversion(tmp_path, extra):
    config = small_generator()
    state, source, target = state_of(config), tmp_path / "scenegen_shift4_re10k.ckpt", tmp_path / "out.safetensors"
    frozen = {name: tensor for name, tensor in state_of(small_config()).items() if name.startswith("compressor.")}
    torch.save(lightning({**state, **frozen}, extra), source)
    configs = convert_checkpoint(source, target, dtype=torch.float32)
    assert configs[0] == config and len(configs) == 3
    tensors, got, _ = load_checkpoint(target, SceneGenConfig)
    assert got == config and tensors.keys() == state.keys()
    assert_same(generated(load_networks(tensors, got)), generated(load_networks(state, config)))
    with pytest.raises(ValueError, match=r"out\.safetensors is a scene generator, not a SceneTok model"):
        load_checkpoint(target, SceneTokConfig)
    with pytest.raises(ValueError, match="is a SceneTok model, not a scene generator"):
        load_checkpoint(small.checkpoint(tmp_path), SceneGenConfig)


def test_weights_are_written_in_the_asked_dtype(tmp_path):
    state = state_of(small_config())
    torch.save({"state_dict": state}, tmp_path / "in.pt")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "half.safetensors")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "full.safetensors", dtype=torch.float32)
    half, full = (read_tensors(tmp_path / f"{name}.safetensors")[0] for name in ("half", "full"))
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert all(torch.equal(full[name], state[name]) for name in state)
    assert all(torch.equal(half[name], state[name].bfloat16()) for name in state)


def test_a_checkpoint_without_null_tokens_renders_but_refuses_guidance(tmp_path):
    state = state_of(small_config())
    del state["denoiser.null_tokens"]
    torch.save(lightning(state), tmp_path / "in.ckpt")
    convert_checkpoint(tmp_path / "in.ckpt", tmp_path / "out.safetensors", dtype=torch.float32)
    tensors, config, _ = load_checkpoint(tmp_path / "out.safetensors")
    networks = load_networks(tensors, config)
    assert config.decoder.null_tokens is False
    assert_same(rendered(networks), rendered(load_networks(state_of(small_config()), small_config())))
    with pytest.raises(ValueError, match="no null_tokens, so guidance is not possible"):
        rendered(networks, guidance=2.0)


def test_safetensors_with_released_names_load_and_convert_without_metadata(tmp_path):
    state = state_of(small_config())
    given = {**state, "compressor.feat_rope.freqs_cos": torch.zeros(CELLS**2, 64), "other.weight": torch.zeros(1)}
    save_file(given, tmp_path / "bare.safetensors", {"format": "pt"})
    tensors, config, _ = load_checkpoint(tmp_path / "bare.safetensors")
    assert config == small_config() and tensors.keys() == state.keys()
    assert convert_checkpoint(tmp_path / "bare.safetensors", tmp_path / "out.safetensors")[0] == config


def test_a_stored_configuration_is_kept(tmp_path):
    path = small.checkpoint(tmp_path, name="mine")
    assert convert_checkpoint(path, tmp_path / "out.safetensors") == [small.config("mine")]
    assert load_checkpoint(tmp_path / "out.safetensors")[1] == small.config("mine")


@pytest.mark.parametrize("generator", [False, True])
def test_faults_are_named_with_the_preset_tried(tmp_path, generator):
    config = small_generator() if generator else small_config()
    at = "scene_generator.model." if generator else "denoiser.model."
    changes = {
        f"1 missing: {at}t_embedder.mlp.0.bias": lambda s: s.pop(f"{at}t_embedder.mlp.0.bias"),
        f"1 unexpected: {at}extra.weight": lambda s: s.update({f"{at}extra.weight": torch.zeros(1)}),
        rf"1 mis-shaped: {at}t_embedder.mlp.0.bias is \[3\], expected \[64\]": lambda s: s.update(
            {f"{at}t_embedder.mlp.0.bias": torch.zeros(3)}
        ),
        "7 unexpected: ([^,]+, ){4}[^,]+ \\.\\.\\.": lambda s: s.update(
            {f"{at}x{i}": torch.zeros(1) for i in range(7)}
        ),
    }
    for message, change in changes.items():
        state = lightning(state_of(config))
        change(state["state_dict"])
        torch.save(state, tmp_path / "in.ckpt")
        with pytest.raises(ValueError, match=message) as error:
            convert_checkpoint(tmp_path / "in.ckpt", tmp_path / "out.safetensors")
        preset = "like scenegen_shift1_re10k" if generator else "like va-videodc_re10k"
        assert f"does not fit the configuration '{preset}'" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.ckpt"]


def test_a_named_preset_is_not_guessed(tmp_path):
    torch.save(state_of(small_config()), tmp_path / "in.ckpt")
    with pytest.raises(ValueError, match=r"does not fit the configuration 'va-wan_dl3dv': .* missing: .* mis-shaped"):
        convert_checkpoint(tmp_path / "in.ckpt", tmp_path / "out.safetensors", preset="va-wan_dl3dv")
    with pytest.raises(ValueError, match="unknown preset 'va'; choose one of va-videodc_re10k, "):
        convert_checkpoint(tmp_path / "in.ckpt", tmp_path / "out.safetensors", preset="va")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    state, trap = state_of(small_config()), tmp_path / "trap"
    torch.save(lightning(state, RunsCode(str(trap))), tmp_path / "in.ckpt")
    assert convert_checkpoint(tmp_path / "in.ckpt", tmp_path / "out.safetensors", dtype=torch.float32)
    tensors = read_tensors(tmp_path / "out.safetensors")[0]
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    assert not trap.exists()


def crafted(path, opcodes):
    """A file in torch's zip format whose object tree is built by these pickle instructions."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", opcodes)
        archive.writestr("archive/data/0", torch.ones(4).numpy().tobytes())
        archive.writestr("archive/version", "3")
    return path


def call(module, name, argument):
    return f"c{module}\n{name}\n(V{argument}\ntR".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "mkdir"),
        ("posix", "mkdir"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.__init__"),
        ("scenetok_core.weights.pickles", "read_pickled"),
    ],
)
def test_whatever_a_pickle_calls_is_inert(tmp_path, module, name):
    trap = tmp_path / "trap"
    opcodes = b"\x80\x02}(X\x01\x00\x00\x00a" + call(module, name, trap) + b"X\x01\x00\x00\x00bK\x01u."
    with pytest.raises(ValueError, match="holds no named tensors"):
        read_pickled(crafted(tmp_path / "in.ckpt", opcodes))
    assert not trap.exists()


def storage_and_sizes(offset, size, stride):
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    numbers = b"K%c(K%ctK%c\x85" % (offset, size, stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + b"\x89NtR"


def test_tensors_are_rebuilt_and_must_lie_inside_their_storage(tmp_path):
    place = b"cnobody\nknows\n)R0}X\x01\x00\x00\x00a"  # an unknown object first, so that torch's own reader gives up
    good = b"\x80\x02" + place + storage_and_sizes(1, 3, 1) + b"s."
    assert torch.equal(read_pickled(crafted(tmp_path / "in.ckpt", good))["a"], torch.ones(3))
    for wrong in (storage_and_sizes(2, 3, 1), storage_and_sizes(0, 3, 2)):
        with pytest.raises(ValueError, match=r"in\.ckpt is damaged or no checkpoint"):
            read_pickled(crafted(tmp_path / "in.ckpt", b"\x80\x02" + place + wrong + b"s."))


def test_a_pickle_changes_nothing_that_outlives_it(tmp_path):
    known = pickle.dumps({"__defaults__": (1,), "harm": 1}, 2)[2:-1]
    for module, name in [("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict"), ("torch", "Size")]:
        opcodes = b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"N" + known + b"\x86b0}."
        with pytest.raises(ValueError, match=r"in\.ckpt"):
            read_pickled(crafted(tmp_path / "in.ckpt", opcodes))
    assert not any(
        hasattr(thing, "harm") for thing in (torch._utils._rebuild_tensor_v2, OrderedDict, torch.Size, tuple)
    )
    assert torch._utils._rebuild_tensor_v2.__defaults__ != (1,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or no checkpoint"),
        (b"PK\x03\x04", "is damaged or no checkpoint"),
        (pickle.dumps({"a": 1}), "is damaged or no checkpoint .*not written by torch 1.6 or newer"),
        (pickle.dumps(Settings()), "is damaged or no checkpoint"),
        (b"\xff" * 64, "is damaged or no checkpoint"),
    ],
)
def test_files_without_tensors_are_refused(tmp_path, content, message):
    (tmp_path / "in.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"in\.pth {message}"):
        read_pickled(tmp_path / "in.pth")


def test_other_archives_and_foreign_models_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="a zip archive, but not one that torch wrote"):
        read_pickled(tmp_path / "in.pt")
    torch.save({"state_dict": {"model.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt is no SceneTok checkpoint .* none of its 1 tensors"):
        convert_checkpoint(tmp_path / "other.ckpt", tmp_path / "out.safetensors")
    buffer = io.BytesIO()
    torch.save(state_of(small_config()), buffer)
    (tmp_path / "cut.ckpt").write_bytes(buffer.getvalue()[:-2000])
    with pytest.raises(ValueError, match=r"cut\.ckpt is damaged or no checkpoint"):
        convert_checkpoint(tmp_path / "cut.ckpt", tmp_path / "out.safetensors")


def test_hash_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"scene")
    assert file_hash(tmp_path / "x") == hashlib.sha256(b"scene").hexdigest()


def test_the_command_writes_and_tells(tmp_path, capsys):
    torch.save(lightning(state_of(small_generator())), tmp_path / "renamed.ckpt")
    arguments = ["convert", str(tmp_path / "renamed.ckpt"), str(tmp_path / "out.safetensors")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "like scenegen_shift1_re10k" in printed and "in bf16" in printed
    assert "fit like scenegen_shift4_re10k, like scenegen_shift12_re10k as well; --preset" in printed
    assert main(["info", str(tmp_path / "out.safetensors")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["source"]) == ("scenegen", "renamed.ckpt")
    small.checkpoint(tmp_path, "mine.safetensors")
    arguments = ["convert", str(tmp_path / "mine.safetensors"), str(tmp_path / "model.safetensors"), "--dtype", "fp32"]
    assert main(arguments) == 0
    assert "as well" not in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "model.safetensors")[0]["denoiser.cnd_proj.bias"].dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("absent.ckpt", "out.safetensors", "no such file"),
        ("absent.ckpt", "out.ckpt", "OUT must end in .safetensors, got 'out.ckpt'"),
        ("model.safetensors", "model.safetensors", "OUT must be another file than IN"),
        ("damaged.ckpt", "out.safetensors", "damaged.ckpt is damaged or no checkpoint"),
        ("foreign.safetensors", "out.safetensors", "foreign.safetensors is no SceneTok checkpoint"),
        ("model.safetensors", "damaged.ckpt/out.safetensors", "is no folder that takes new files"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(tmp_path, capsys, source, target, message):
    config = small_config()
    save_checkpoint(tmp_path / "model.safetensors", state_of(config), config)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "damaged.ckpt").write_bytes(b"\x80")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == BAD_INPUT
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert message in line and printed.out == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
