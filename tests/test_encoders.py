"""2-D encoders through transformers: small ones with random weights, saved as published ones are."""

import json
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenetok_core.configs import RaeConfig
from scenetok_core.encoders import ENCODERS, FILES, ImageEncoder, load_encoder
from scenetok_core.models.rae import RaeNetworks
from scenetok_core.rae import Rae
from scenetok_core.weights import downloads
from scenetok_core.weights.checkpoints import save_checkpoint
from scenetok_core.weights.downloads import KNOWN_FILES, address_of, known_file, known_folder
from tests import small
from tests.memory import PeakMemory

pytest.importorskip("transformers", reason="needs transformers, which ComfyUI brings")
from transformers import Dinov2Config, Dinov2Model, SiglipConfig, SiglipModel

HIDDEN, PATCH = 16, 14
SIZES = [(28, 42), (70, 56), (14, 14)]
THROUGH_TRANSFORMERS = ["dinov2", "siglip2"]
PUBLISHED = {  # some names of the released files
    "dinov2": ["embeddings.cls_token", "encoder.layer.0.attention.attention.query.weight", "layernorm.bias"],
    "siglip2": ["vision_model.encoder.layers.0.self_attn.q_proj.weight", "text_model.final_layer_norm.weight"],
}


def build(name):
    sizes: dict[str, Any] = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    if name == "dinov2":
        return Dinov2Model(Dinov2Config(**sizes, image_size=4 * PATCH, initializer_range=0.2))
    text = {**sizes, "intermediate_size": 16, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = {**sizes, "intermediate_size": 32, "image_size": 64, "patch_size": 16}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with all encoders."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        for name in THROUGH_TRANSFORMERS:
            build(name).save_pretrained(folder / ENCODERS[name].folder)
            assert set(PUBLISHED[name]) <= set(load_file(folder / ENCODERS[name].folder / FILES[1]))
    return folder


def pictures(count, size, seed=0):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", THROUGH_TRANSFORMERS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_one_feature_per_patch(weights, name, size):
    encoder = load_encoder(name, [weights])
    features = encoder.encode(pictures(2, size))
    assert features.shape == (2, size[0] * size[1] // PATCH**2, HIDDEN) and features.isfinite().all()
    # the last LayerNorm, still without trained weights
    torch.testing.assert_close(features.mean(-1), torch.zeros(features.shape[:2]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", THROUGH_TRANSFORMERS)
def test_patches_come_row_by_row(weights, name):
    """Without attention a feature is that of its own patch."""
    encoder = load_encoder(name, [weights])
    for key, parameter in encoder.network.named_parameters():
        if "attention.o_proj" in key or "self_attn.out_proj" in key or "attention.output.dense" in key:
            parameter.zero_()
    rows, columns = 3, 4
    grey = torch.full((1, 3, rows * PATCH, columns * PATCH), 0.5)
    before = encoder.encode(grey)
    for row, column in ((0, 0), (1, 2), (2, 3)):
        marked = grey.clone()
        marked[..., row * PATCH + 4 : row * PATCH + 10, column * PATCH + 4 : column * PATCH + 10] = 1
        changed = (encoder.encode(marked) - before).abs().amax(-1)[0] > 1e-4
        assert changed.nonzero().flatten().tolist() == [row * columns + column]


def test_dinov2_gives_its_patches_after_the_last_norm_and_no_class_token(weights):
    network = Dinov2Model.from_pretrained(weights / "dinov2-base").eval()
    rgb = pictures(1, (28, 42))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        all_tokens = network(pixel_values=(rgb - mean[:, None, None]) / std[:, None, None]).last_hidden_state
    assert all_tokens.shape[1] == 7
    torch.testing.assert_close(load_encoder("dinov2", [weights]).encode(rgb), all_tokens[:, 1:])


def test_siglip2_sees_pictures_of_its_own_patches(weights):
    network = SiglipModel.from_pretrained(weights / ENCODERS["siglip2"].folder).eval().vision_model
    rgb = pictures(1, (28, 42))
    flat = torch.full((1, 3, 32, 48), 0.7)
    with torch.no_grad():
        expected = network(pixel_values=flat * 2 - 1, interpolate_pos_encoding=True).last_hidden_state
    encoder = load_encoder("siglip2", [weights])
    torch.testing.assert_close(encoder.encode(torch.full_like(rgb, 0.7)), expected, atol=1e-4, rtol=0)
    assert encoder.encode(rgb).shape == (1, 6, HIDDEN)


@pytest.mark.parametrize("name", THROUGH_TRANSFORMERS)
def test_a_feature_depends_on_its_picture_alone(weights, name):
    encoder = load_encoder(name, [weights])
    many = pictures(19, (14, 28))  # more than are encoded at once
    kept = many.clone()
    together = encoder.encode(many)
    alone = torch.cat([encoder.encode(picture[None]) for picture in many])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert torch.equal(many, kept) and not together.requires_grad


def test_numbers_are_of_the_format_asked_for(weights):
    exact, half = (load_encoder("dinov2", [weights], "cpu", dtype) for dtype in (torch.float32, torch.bfloat16))
    rgb = pictures(1, (28, 28))
    assert half.encode(rgb).dtype == torch.bfloat16 and exact.encode(rgb).dtype == torch.float32
    torch.testing.assert_close(half.encode(rgb).float(), exact.encode(rgb), atol=0.2, rtol=0)
    assert exact.hash == load_encoder("dinov2", [weights]).hash != half.hash
    assert not any(parameter.requires_grad for parameter in exact.network.parameters())


def test_loading_is_silent_and_leaves_random_numbers_alone(weights, capfd):
    state = torch.get_rng_state()
    load_encoder("siglip2", [weights])  # beside a text model, which is not wanted
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_sides_that_are_no_whole_patches_are_refused(weights):
    with pytest.raises(ValueError, match="multiples of 14 pixels, got 28 x 30"):
        load_encoder("dinov2", [weights]).encode(pictures(1, (28, 30)))


def test_the_first_folder_with_both_files_counts(weights, tmp_path):
    whole = weights / "dinov2-base"
    (tmp_path / "dinov2-base").mkdir()
    (tmp_path / "dinov2-base" / FILES[0]).write_bytes((whole / FILES[0]).read_bytes())
    assert load_encoder("dinov2", [tmp_path, weights]).width == HIDDEN
    doubled = {key: 2 * tensor for key, tensor in load_file(whole / FILES[1]).items()}
    save_file(doubled, tmp_path / "dinov2-base" / FILES[1], {"format": "pt"})
    assert load_encoder("dinov2", [tmp_path, weights]).hash != load_encoder("dinov2", [weights, tmp_path]).hash


def test_a_missing_encoder_is_named_with_what_to_save_where(weights, tmp_path):
    with pytest.raises(ValueError, match=r"unknown 2-D encoder 'clip'; choose one of dinov2, siglip2, depth_any"):
        load_encoder("clip", [tmp_path])
    with pytest.raises(ValueError) as caught:
        load_encoder("dinov2", [tmp_path / "a", tmp_path / "b"])
    for part in ("'dinov2' needs config.json and model.safetensors of facebook/dinov2-base in",
                 str(tmp_path / "a" / "dinov2-base"), str(tmp_path / "b" / "dinov2-base"),
                 f'download dinov2-base --folder "{tmp_path / "a"}"'):  # fmt: skip
        assert part in str(caught.value)
    (tmp_path / "dinov2-base").mkdir()
    for file in (FILES[0], "pytorch_model.bin"):  # a pickled file is not even looked at
        (tmp_path / "dinov2-base" / file).write_bytes((weights / "dinov2-base" / FILES[0]).read_bytes())
    with pytest.raises(ValueError, match=r"needs config.json and model.safetensors"):
        load_encoder("dinov2", [tmp_path])


def copied(weights, folder, **settings):
    """A copy of the small DINOv2 with other settings."""
    target = folder / "dinov2-base"
    target.mkdir()
    values = json.loads((weights / "dinov2-base" / FILES[0]).read_text())
    (target / FILES[0]).write_text(json.dumps({**values, **settings}))
    (target / FILES[1]).write_bytes((weights / "dinov2-base" / FILES[1]).read_bytes())
    return target


def test_other_weights_are_refused(weights, tmp_path):
    folder = copied(weights, tmp_path, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"dinov2-base does not hold the 2-D encoder 'dinov2' \(\d+ weights are miss"):
        load_encoder("dinov2", [tmp_path])
    (folder / FILES[1]).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"delete it and fetch it again: `python -m scenetok_core download dinov2"):
        load_encoder("dinov2", [tmp_path])
    (folder / FILES[0]).write_text("no JSON")
    with pytest.raises(ValueError, match="does not hold the 2-D encoder 'dinov2'"):
        load_encoder("dinov2", [tmp_path])


def test_other_patches_are_refused(tmp_path):
    config = Dinov2Config(hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16)
    with torch.random.fork_rng():
        Dinov2Model(config).save_pretrained(tmp_path / "dinov2-base")
    with pytest.raises(ValueError, match="patches of 16 pixels, 'dinov2' has 14; fetch the right one"):
        load_encoder("dinov2", [tmp_path])


def test_a_package_that_is_missing_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"dinov2-base needs transformers, .* pip install transformers"):
        load_encoder("dinov2", [weights])
    folder = tmp_path / "DA3-BASE"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes(b"{}")
    monkeypatch.setitem(sys.modules, "depth_anything_3", None)
    with pytest.raises(ImportError, match=r"pip install git\+https://github.com/ByteDance-Seed/Depth-Anything-3"):
        load_encoder("depth_anything_3", [tmp_path])


def rae_checkpoint(folder, **changes):
    config = RaeConfig(
        "small", pixels=(196, 196 * 12), hidden=HIDDEN, heads=2, tokens=4, token_dim=6, neck_depth=1, decoder_depth=1,
        points=None, **changes,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(folder / "rae.safetensors", RaeNetworks(config).state_dict(), config)
    return folder / "rae.safetensors"


@pytest.mark.parametrize("name", THROUGH_TRANSFORMERS)
def test_a_3drae_sees_through_its_encoder(weights, tmp_path, name):
    path = rae_checkpoint(tmp_path, encoder=name)
    with pytest.raises(ValueError, match=f"'{name}' needs config.json"):
        Rae.load(path)  # looks beside the checkpoint
    model = Rae.load(path, folders=[tmp_path, weights])
    views = small.views(3, (28, 42))
    scene = model.encode(views)
    other = views.rgb.clone()
    other[1] = 1 - other[1]
    changed = model.encode(type(views)(other, views.cameras))
    assert (scene.tokens - changed.tokens).abs().max() > 1e-3
    assert model.render(scene, views.cameras).shape == (3, 3, 28, 42)


def test_a_3drae_of_another_width_is_refused(weights, tmp_path):
    path = rae_checkpoint(tmp_path, encoder="dinov2")
    with torch.random.fork_rng():
        wide = Dinov2Config(hidden_size=2 * HIDDEN, num_hidden_layers=1, num_attention_heads=2, image_size=28)
        Dinov2Model(wide).save_pretrained(tmp_path / "dinov2-base")
    with pytest.raises(ValueError, match="features of 32 numbers, but the 3DRAE has hidden 16"):
        Rae.load(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 16, 40])
def test_encoding_needs_what_is_said(count, dtype, monkeypatch):
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    with torch.device("meta"):
        network = Dinov2Model(Dinov2Config(num_hidden_layers=2, image_size=518)).to(dtype).eval().requires_grad_(False)
        rgb = torch.empty(count, 3, 252, 252)
    encoder = ImageEncoder(network, ENCODERS["dinov2"], PATCH, 768)
    with PeakMemory(network) as peak:
        encoder.encode(rgb.clone())
    assert 1 <= encoder.encode_bytes(count, 18 * 18) / peak.bytes <= 1.9


def test_the_files_of_encoders_are_known():
    for name, spec in ENCODERS.items():
        files = known_folder(spec.folder)
        assert [file.path for file in files] == [f"{spec.folder}/{file}" for file in FILES], name
        assert all(address_of(file).endswith(f"{spec.repo}/resolve/main/{file.name}") for file in files)
    assert known_file("config.json") is None and known_folder("") == () == known_folder("dinov2")
    assert known_file("dinov2-base/config") is known_folder("dinov2-base")[0]
    assert len({file.path for file in KNOWN_FILES}) == len(KNOWN_FILES)


def test_downloaded_files_are_found(weights, tmp_path, monkeypatch):
    """From the hub's cache, as both files may lie there already."""
    monkeypatch.setattr(downloads, "_cached", lambda file: weights / file.path)
    for file in known_folder("dinov2-base"):
        assert downloads.download(file, tmp_path) == tmp_path / "dinov2-base" / file.name
    assert load_encoder("dinov2", [tmp_path]).hash == load_encoder("dinov2", [weights]).hash
