"""Finding and reading the published weights of autoencoders."""

import pytest
import torch
from safetensors.torch import save_file

from scenetok_core.autoencoders import PatchAutoencoder, published_files
from scenetok_core.weights import published
from scenetok_core.weights.published import load_autoencoder

STATE = {"encoder.conv_in.weight": torch.arange(6.0).view(2, 3)}


@pytest.fixture
def built(monkeypatch):
    """What `load_autoencoder` would build from: name, tensors, dtype."""
    calls = []
    monkeypatch.setattr(published, "build_autoencoder", lambda *given: calls.append(given))
    return calls


def test_autoencoders_without_weights_need_no_file(tmp_path):
    assert isinstance(load_autoencoder("patch-4", [tmp_path]), PatchAutoencoder)
    with pytest.raises(ValueError, match="unknown autoencoder 'jpeg'"):
        load_autoencoder("jpeg", [tmp_path])


@pytest.mark.parametrize("name", ["va-vae", "videodcae", "wan2.2"])
def test_every_published_file_is_found_and_the_first_folder_counts(tmp_path, built, name):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, factor in ((second, 2.0), (first, 1.0)):
        folder.mkdir()
        for file in published_files(name):
            tensors = {key: value * factor for key, value in STATE.items()}
            save_file(tensors, folder / file) if file.endswith("safetensors") else torch.save(tensors, folder / file)
            load_autoencoder(name, [first, second], dtype=torch.bfloat16)
            given, state, dtype = built[-1]
            assert (given, dtype) == (name, torch.bfloat16)
            assert torch.equal(state["encoder.conv_in.weight"], STATE["encoder.conv_in.weight"] * factor)
            if folder == second:
                (folder / file).rename(folder / f"kept_{file}")
        for kept in folder.glob("kept_*"):
            kept.rename(folder / kept.name.removeprefix("kept_"))


def test_a_missing_file_is_named_with_its_places(tmp_path):
    with pytest.raises(ValueError, match=r"'wan2.2' needs Wan2.2_VAE.pth or .* put it into .*first or .*second"):
        load_autoencoder("wan2.2", [tmp_path / "first", tmp_path / "second"])


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "F32T4C128_AE.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"F32T4C128_AE.safetensors is damaged"):
        load_autoencoder("videodcae", [tmp_path])
