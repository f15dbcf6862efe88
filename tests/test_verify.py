"""Verification of released weights: hashes, loading, and figures, on small models in place of the released ones."""

import dataclasses
import hashlib

import pytest
import torch

from scenetok_core.autoencoders import PatchAutoencoder, published_files
from scenetok_core.cli import main
from scenetok_core.cli import verify as command
from scenetok_core.leave_out import leave_out
from scenetok_core.metrics import psnr
from scenetok_core.weights.checkpoints import build_networks, load_checkpoint, save_checkpoint
from scenetok_core.weights.convert import convert_checkpoint
from scenetok_core.weights.downloads import KNOWN_FILES, KnownFile
from scenetok_core.weights.presets import PRESETS
from scenetok_core.weights.verify import check_file, draw, find_files, load_generator, load_model, reconstruct
from tests import small
from tests.test_convert import lightning, small_config, state_of
from tests.test_leave_out import LEAVE_OUT_SCORES

VIEWS, EVERY, BAD_INPUT = 7, 2, 2
MODELS = {"small": small.config(), "small-generator": small.generator_config()}


def pickled(folder, config=MODELS["small"]):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build_networks(config).state_dict()
    path = folder / f"{config.name}.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    pickled(tmp_path)
    pickled(tmp_path, MODELS["small-generator"])
    return tmp_path


@pytest.fixture
def verify(folder, monkeypatch):
    """The command, with the small models as the released ones."""
    monkeypatch.setattr(command, "MODELS", MODELS)
    return lambda *options: main(["verify", *options, "--folder", str(folder), "--device", "cpu"])


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
def test_what_a_preset_needs_can_be_downloaded(tmp_path, config):
    files = find_files(config, tmp_path)
    assert set(files) <= {file.name for file in KNOWN_FILES} and len(files) >= 2
    assert set(files.values()) == {None}


def test_files_are_found_in_every_form_and_converted_ones_come_first(tmp_path):
    config = PRESETS["va-wan_dl3dv"]
    wan = published_files("wan2.2")
    for name in ("va-wan_dl3dv.ckpt", wan[1]):
        (tmp_path / name).touch()
    found = find_files(config, tmp_path)
    assert found == {
        "va-wan_dl3dv.ckpt": tmp_path / "va-wan_dl3dv.ckpt",
        published_files("va-vae")[0]: None,
        wan[0]: tmp_path / wan[1],
    }
    (tmp_path / "va-wan_dl3dv.safetensors").touch()
    assert find_files(config, tmp_path)["va-wan_dl3dv.ckpt"] == tmp_path / "va-wan_dl3dv.safetensors"


def test_a_hash_is_compared_with_that_of_the_published_file(folder):
    source, target = folder / "released.ckpt", folder / "released.safetensors"
    torch.save(lightning(state_of(small_config())), source)
    convert_checkpoint(source, target)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for recorded, matches in ((digest, True), ("0" * 64, False), (None, None)):
        known = KnownFile(source.name, "model", "MIT", url="https://example.org/released.ckpt", sha256=recorded)
        assert [check_file(path, known).matches for path in (source, target)] == [matches, matches]
    converted = check_file(target, None)
    assert converted.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (converted.published, converted.matches) == (digest, None)
    (folder / "damaged.safetensors").write_bytes(target.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"damaged.safetensors is damaged or no safetensors file"):
        check_file(folder / "damaged.safetensors", None)


def test_published_and_converted_weights_are_the_same_model(folder):
    source, target = folder / "small.ckpt", folder / "new.safetensors"
    save_checkpoint(target, load_model(MODELS["small"], source).networks.state_dict(), MODELS["small"])
    published, converted = (load_model(MODELS["small"], path) for path in (source, target))
    assert published.config == converted.config == MODELS["small"]
    assert published.hash == converted.hash == load_checkpoint(target)[2]["model_hash"]
    views = small.views()
    torch.testing.assert_close(published.encode(views).tokens, converted.encode(views).tokens, atol=1e-5, rtol=1e-5)


def test_files_of_other_models_are_refused(folder):
    other = small.checkpoint(folder, "other.safetensors", name="other")
    with pytest.raises(ValueError, match=r"holds 'other' with other settings than 'small' .* --preset small"):
        load_model(MODELS["small"], other)
    with pytest.raises(ValueError, match="is a SceneTok model, not a scene generator"):
        load_generator(MODELS["small-generator"], other)
    wider = dataclasses.replace(MODELS["small"].compressor, tokens=small.TOKENS + 1)
    with pytest.raises(ValueError, match=r"1 mis-shaped: compressor.scene_tokens"):
        load_model(dataclasses.replace(MODELS["small"], compressor=wider), folder / "small.ckpt")


def test_reconstruction_scores_renderings_and_the_autoencoder_alone(folder):
    model, views = load_model(MODELS["small"], folder / "small.ckpt"), small.views(VIEWS)
    figures, direct = reconstruct(model, views, EVERY, seed=3), leave_out(model, views, EVERY, seed=3)
    assert (figures.inputs, figures.left_out) == (len(direct.inputs), len(direct.truth))
    assert figures.scores == direct.scores()
    assert figures.autoencoder == pytest.approx(100), "patches lose nothing"
    assert min(figures.seconds.values()) > 0 and figures.peak_memory is None


class Pairs(PatchAutoencoder):
    """Takes frames two by two, and both latents of a pair are those of its first."""

    def __init__(self):
        super().__init__(small.PATCH)
        self.spec = dataclasses.replace(self.spec, group_frames=2, group_latents=2)

    def encode(self, frames):
        return super().encode(frames)[:, ::2].repeat_interleave(2, 1)


def test_the_autoencoder_gets_whole_groups_of_frames(folder):
    model, views = load_model(MODELS["small"], folder / "small.ckpt"), small.views(VIEWS)
    pairwise = dataclasses.replace(model.config, sampling=dataclasses.replace(model.config.sampling, clean_targets=2))
    model = dataclasses.replace(model, config=pairwise, target_autoencoder=Pairs())
    truth = views[[1, 3, 5]].rgb
    assert reconstruct(model, views, EVERY).autoencoder == pytest.approx(float(psnr(truth[[0, 0, 2]], truth).mean()))


def test_a_drawing_is_described_by_its_tokens_and_its_first_view(folder):
    model = load_model(MODELS["small"], folder / "small.ckpt")
    generator = load_generator(MODELS["small-generator"], folder / "small-generator.ckpt")
    views = small.views(VIEWS)
    figures = draw(generator, model, views, seed=3)

    def noise():
        return torch.Generator().manual_seed(3)

    scene = generator.generate(views[[0]], views.cameras, model, generator=noise())
    frames = model.render(scene, views.cameras[[0]], generator=noise())
    assert (figures.token_mean, figures.token_std) == (float(scene.tokens.mean()), float(scene.tokens.std()))
    assert figures.score == pytest.approx(float(psnr(frames, views.rgb[:1])))
    assert list(figures.seconds) == ["draw", "render"] and figures.peak_memory is None


def test_the_command_prints_hash_and_figures_of_a_model(verify, folder, capsys):
    assert verify("small") == 0
    text = capsys.readouterr().out
    assert hashlib.sha256((folder / "small.ckpt").read_bytes()).hexdigest() in text
    lines = text.splitlines()
    assert "recorded  none" in text
    assert any(line.startswith("small: names and shapes as expected") for line in lines)
    assert [line.split("dB  ")[1] for line in lines if "dB  " in line] == [
        *LEAVE_OUT_SCORES, "autoencoder patch-4 alone",
    ]  # fmt: skip
    assert any(line.endswith("s   encode and render") for line in lines)


def test_the_command_draws_a_scene_if_the_model_that_renders_it_is_there(verify, folder, capsys):
    assert verify("small-generator") == 0
    text = capsys.readouterr().out
    assert "one scene from the first of" in text and "dB  that view, rendered again" in text
    (folder / "small.ckpt").unlink()
    assert verify("small-generator") == 0
    text = capsys.readouterr().out
    assert "small-generator: names and shapes as expected" in text
    assert f'lacks small.ckpt; fetch with: python -m scenetok_core download small.ckpt --folder "{folder}"' in text


def test_a_file_with_another_hash_than_recorded_is_refused(verify, monkeypatch, capsys):
    known = KnownFile("small.ckpt", "model", "MIT", url="https://example.org/small.ckpt", sha256="0" * 64)
    monkeypatch.setattr(command, "known_file", lambda name: known)
    assert verify("small") == BAD_INPUT
    printed = capsys.readouterr()
    assert "0" * 64 in printed.out
    assert "error: not what is published: small.ckpt; delete and download again" in printed.err


def test_missing_files_are_named_with_their_commands(tmp_path, capsys):
    assert main(["verify", "va-wan_dl3dv", "--folder", str(tmp_path)]) == BAD_INPUT
    error = capsys.readouterr().err
    for name in ("va-wan_dl3dv.ckpt", published_files("va-vae")[0], "Wan2.2_VAE.pth"):
        assert f'python -m scenetok_core download {name} --folder "{tmp_path}"' in error


def test_other_captures_are_asked_for_where_there_is_no_example(verify, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "_EXAMPLE", tmp_path / "absent.json")
    assert verify("small") == BAD_INPUT
    assert "name one with --capture" in capsys.readouterr().err
    assert verify("small", "--every", "1") == BAD_INPUT
    assert "--every must be at least 2" in capsys.readouterr().err
