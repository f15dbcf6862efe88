"""Which network is placed when, and that what goes into it is where it was placed."""

from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from scenetok_core.pipeline import SceneTok
from scenetok_core.uncertainty import render_uncertainty
from tests import small, staged

META = torch.device("meta")
FRAMES = 6


class Recorder:
    """A `place` that leaves networks where they are and notes what it is asked for."""

    def __init__(self):
        self.networks, self.needed = [], []

    def __call__(self, network, needed):
        self.networks.append(network)
        self.needed.append(needed)
        return torch.device("cpu")


@pytest.fixture
def record():
    return Recorder()


@pytest.fixture
def model(record):
    return staged.model(place=record)


@pytest.fixture
def scene():
    return staged.model().encode(small.views())


def test_encoding_places_the_context_autoencoder_then_the_compressor(model, record):
    model.encode(small.views())
    assert record.networks == [model.context_autoencoder.network, model.networks.compressor]


def test_rendering_places_the_decoder_then_the_target_autoencoder(model, record, scene):
    model.render(scene, small.cameras(FRAMES), progress=lambda *_: None)
    assert record.networks == [model.networks.denoiser, model.target_autoencoder.network]


def test_a_preview_places_the_autoencoder_and_the_decoder_again(model, record, scene):
    def show(done, total, preview):
        if done == 2:
            preview()

    model.render(scene, small.cameras(FRAMES), progress=show)
    decoder, autoencoder = model.networks.denoiser, model.target_autoencoder.network
    assert record.networks == [decoder, autoencoder, decoder, autoencoder]
    assert record.needed[0] == record.needed[2] and record.needed[1] < record.needed[3], "a preview shows fewer frames"


def test_drawing_places_the_context_autoencoder_then_the_generator(model, record):
    generator = staged.generator(place=record)
    generator.generate(small.views(2), small.cameras(FRAMES), model)
    network = generator.networks.scene_generator
    assert record.networks == [generator.context_autoencoder.network, network, network]  # to prepare and to draw


def test_every_sample_of_an_uncertainty_is_placed_anew(model, record, scene):
    render_uncertainty(model, scene, small.cameras(FRAMES), 2, steps=1)
    assert record.networks == [model.networks.denoiser, model.target_autoencoder.network] * 2


def test_autoencoders_without_weights_are_not_placed(record, tmp_path):
    model = replace(SceneTok.load(small.checkpoint(tmp_path)), place=record)
    model.render(model.encode(small.views()), small.cameras(FRAMES))
    assert record.networks == [model.networks.compressor, model.networks.denoiser] == model.modules


@pytest.mark.parametrize("make", [staged.model, staged.generator])
def test_what_is_placed_is_all_that_holds_weights(make):
    pipeline = make()
    autoencoders = [a.network for a in (vars(pipeline).get(f"{end}_autoencoder") for end in ("context", "target")) if a]
    held = {id(p) for part in (pipeline.networks, *autoencoders) for p in part.parameters()}
    placed = [id(p) for network in pipeline.modules for p in network.parameters()]
    assert sorted(placed) == sorted(held)


def test_nothing_is_placed_for_what_is_refused(model, record, scene):
    generator = staged.generator(place=record)
    with suppress(ValueError):
        model.encode(small.views(), reference=99)
    with suppress(ValueError):
        model.render(scene.replace(model_hash="another"), small.cameras(FRAMES))
    with suppress(ValueError):
        generator.generate(small.views(1), small.cameras(FRAMES), model, steps=0)
    assert record.networks == []


def test_placing_changes_no_result(model, scene):
    plain = staged.model()
    assert torch.equal(model.encode(small.views()).tokens, scene.tokens)
    assert torch.equal(model.render(scene, small.cameras(FRAMES)), plain.render(scene, small.cameras(FRAMES)))


def test_the_bytes_follow_pictures_frames_guidance_and_number_format(model, record, scene):
    def needed(pipeline, views=1, frames=1, guidance=1.0):
        record.needed.clear()
        pipeline.encode(small.views(views))
        pipeline.render(scene, small.cameras(frames), guidance=guidance)
        return record.needed.copy()

    least, half = needed(model), staged.model(place=record)
    for network in half.modules:
        network.to(torch.bfloat16)
    grown = {"views": needed(model, views=3), "frames": needed(model, frames=9), "guidance": needed(model, guidance=2)}
    larger = {name: [a > b for a, b in zip(values, least, strict=True)] for name, values in grown.items()}
    assert larger == {
        "views": [True, True, False, False],
        "frames": [False, False, True, True],
        "guidance": [False, False, True, False],
    }
    assert all(a < b for a, b in zip(needed(half), least, strict=True))


# ---- where the tensors are -----------------------------------------------------------------------


class StoppedError(Exception):
    """What a stage was given is known."""


def devices_of(values):
    tensors = [x for value in values for x in (value if isinstance(value, (list, tuple)) else [value])]
    flat = [x for tensor in tensors for x in (tensor if isinstance(tensor, tuple) else [tensor])]
    return {x.device for x in flat if isinstance(x, torch.Tensor)}


def moving(network):
    """A `place` that brings `network` to the meta device, where nothing is computed, and no other."""

    def place(other, needed):
        return next((other.to(META) if other is network else other).parameters()).device

    return place


def given_to(network, run):
    """Devices of all tensors that `network` is called with."""
    seen = []

    def stop(_, arguments):
        seen.append(devices_of(arguments))
        raise StoppedError

    handle = network.register_forward_pre_hook(stop)
    with pytest.raises(StoppedError):
        run()
    handle.remove()
    return seen[0]


def test_views_and_rays_go_where_the_compressor_is():
    model = staged.model()
    model.place = moving(model.networks.compressor)
    assert given_to(model.networks.compressor, lambda: model.encode(small.views())) == {META}


def test_noise_rays_and_tokens_go_where_the_decoder_is(scene):
    model = staged.model()
    model.place = moving(model.networks.denoiser)
    assert given_to(model.networks.denoiser, lambda: model.render(scene, small.cameras(FRAMES))) == {META}


def test_pictures_and_latents_go_where_the_autoencoders_are(scene):
    model = staged.model()
    _, _, pictures, latents = model.modules
    model.place = moving(pictures)
    assert given_to(pictures.encoder, lambda: model.encode(small.views())) == {META}
    model.place = moving(latents)
    assert given_to(latents.decoder, lambda: model.render(scene, small.cameras(FRAMES))) == {META}


def test_views_rays_and_noise_go_where_the_generator_is(monkeypatch):
    generator, conditioned = staged.generator(), []
    network = generator.networks.scene_generator
    generator.place = moving(network)
    monkeypatch.setattr(network, "condition", lambda *given: conditioned.append(devices_of(given)))
    run = generator.generate
    views, path = small.views(1), small.cameras(FRAMES)
    assert given_to(network, lambda: run(views, path, staged.model(), guidance=1.0)) == {META}
    assert conditioned == [{META}]
