"""Long paths: window by window, several windows at once, and what happens when memory runs out."""

import warnings
from dataclasses import replace

import pytest
import torch

from scenetok_core import SceneTok
from scenetok_core.autoencoders.videodc import Tiling
from scenetok_core.configs import SamplingConfig
from scenetok_core.depth import DepthHead
from scenetok_core.passes import Pass, PathNoise
from scenetok_core.placement import Exhaustion
from tests import small, staged
from tests.memory import PeakMemory
from tests.test_autoencoders import small as small_autoencoder

SAME = 1e-5
APART = SamplingConfig(steps=3, window=4, clean_targets=0)  # windows know nothing of each other
SHORT, LONG = 16, 128
FRAME_BYTES = 3 * small.IMAGE**2 * 4
POSE_BYTES = FRAME_BYTES // 6  # of a camera and its noise levels, with copies


def load(folder, **changes):
    return SceneTok.load(small.checkpoint(folder, **changes))


@pytest.fixture
def apart(tmp_path):
    return load(tmp_path, sampling=APART)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def peak_beside_frames(model, frames, **options):
    scene, path = model.encode(small.views()), small.cameras(frames)
    with PeakMemory(*model.modules) as peak:
        model.render(scene, path, **options)
    return peak.bytes - frames * FRAME_BYTES


def tiled(folder=None):
    model = staged.model()
    model.target_autoencoder = small_autoencoder("videodcae", tiling=Tiling(frames=16))
    return model


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (load, {}),
        (lambda folder: load(folder, sampling=APART), {"views_per_pass": 8}),
        (lambda folder: load(folder, sampling=replace(APART, schedule="pyramid", clean_targets=1)), {}),
        (tiled, {"temporal_tiles": "on"}),
    ],
)
def test_a_path_of_eight_times_the_length_needs_the_same_memory_beside_its_frames(make, options, tmp_path):
    model = make(tmp_path)
    short, long = (peak_beside_frames(model, frames, steps=1, **options) for frames in (SHORT, LONG))
    assert long - short < (LONG - SHORT) * POSE_BYTES


@pytest.mark.parametrize(
    ("views_per_pass", "guidance", "schedule"),
    [(4, 1.0, "full_sequence"), (8, 2.0, "full_sequence"), (11, 1.0, "autoregressive"), (1000, 2.0, "autoregressive")],
)
def test_independent_windows_may_be_sampled_together(tmp_path, views_per_pass, guidance, schedule):
    model = load(tmp_path, sampling=replace(APART, schedule=schedule))
    scene, path = model.encode(small.views()), small.cameras(18)  # four windows and half a one
    one = model.render(scene, path, guidance=guidance)
    calls, network = [], model.networks.denoiser
    handle = network.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    many = model.render(scene, path, guidance=guidance, views_per_pass=views_per_pass)
    handle.remove()
    assert (many - one).abs().max() < SAME
    assert max(calls) == min(views_per_pass // 4, 3) * (1 if guidance == 1.0 else 2)


def test_windows_that_share_latents_stay_alone(tmp_path):
    model = load(tmp_path)
    scene, path = model.encode(small.views()), small.cameras(13)
    assert torch.equal(model.render(scene, path, views_per_pass=100), model.render(scene, path))


def test_shorter_passes_are_shorter_windows(tmp_path):
    model = load(tmp_path)
    scene, path, lengths = model.encode(small.views()), small.cameras(9), set()
    model.networks.denoiser.register_forward_pre_hook(lambda _, given: lengths.add(given[0].shape[1]))
    frames = model.render(scene, path, views_per_pass=2)
    assert lengths == {2} and frames.shape == (9, 3, small.IMAGE, small.IMAGE)


def test_groups_are_not_parted():
    spec = small_autoencoder("wan2.2").spec
    sampling = SamplingConfig(window=2 * spec.group_latents, clean_targets=spec.group_latents)
    path = 6 * spec.group_latents
    assert Pass.of(sampling, spec, path, frames=1).latents == spec.group_latents
    half = Pass.of(sampling, spec, path).halved()
    assert half is not None and (half.latents, half.overlap) == (spec.group_latents, 0)
    assert half.halved() is None


def test_a_pass_may_not_be_negative(apart):
    with pytest.raises(ValueError, match=r"views_per_pass must be 0 .* got -1"):
        apart.render(apart.encode(small.views()), small.cameras(2), views_per_pass=-1)


@pytest.mark.parametrize("numbers", [16, 48, 5])
def test_noise_does_not_depend_on_how_it_is_drawn(numbers):
    whole = torch.randn(9, numbers, generator=seeded())
    noise, parts = PathNoise(9, (numbers,), seeded()), []
    for start, stop in ((0, 4), (2, 5), (5, 6), (6, 9)):
        parts.append(noise(slice(start, stop)))
        assert torch.equal(parts[-1], whole[start:stop])
        noise.forget(start)


# ---- memory that runs out ------------------------------------------------------------------------


class Card:
    """A `place` on a device of so many bytes, which other programs may take in the middle of the work."""

    def __init__(self, size):
        self.size, self.told = size, []

    def __call__(self, network, needed):
        if needed > self.size:
            raise torch.cuda.OutOfMemoryError(f"tried to allocate {needed} bytes")
        return torch.device("cpu")

    def on(self, model):
        return replace(model, place=self, exhaustion=Exhaustion(relieve=self.told.append))


def needed(model, **options):
    """Most bytes asked for at each network by a rendering of 18 frames."""
    asked = {}

    def note(network, bytes_):
        asked[network] = max(asked.get(network, 0), bytes_)
        return torch.device("cpu")

    noting = replace(model, place=note)
    scene = model.encode(small.views())
    noting.render(scene, small.cameras(18), **options)
    return asked


def test_when_memory_runs_out_half_of_the_windows_give_the_same_frames(apart):
    scene, path = apart.encode(small.views()), small.cameras(18)
    decoder = apart.networks.denoiser
    card = Card(needed(apart, views_per_pass=8)[decoder])
    frames = card.on(apart).render(scene, path, views_per_pass=16)
    assert (frames - apart.render(scene, path)).abs().max() < SAME
    assert card.told == ["out of memory while sampling 4 x 4 latents in a pass; going on with 2 x 4 latents"]


def test_when_memory_runs_out_on_the_way_what_is_finished_stays_and_windows_are_halved(tmp_path):
    """Another program takes memory during the second window; the decoder asks for it in every step."""
    model = load(tmp_path, sampling=SamplingConfig(steps=3, window=4, clean_targets=2))
    scene, path, lengths, counts = model.encode(small.views()), small.cameras(12), [], []
    whole, card = model.render(scene, path), Card(4)

    def step(network, given):
        lengths.append(given[0].shape[1])
        card(network, lengths[-1])

    def note(done, total, preview):
        counts.append((done, total))
        card.size = 2 if done == 4 else card.size

    model.networks.denoiser.register_forward_pre_hook(step)
    model.exhaustion = Exhaustion(relieve=card.told.append)
    frames = model.render(scene, path, progress=note)
    assert set(lengths[:5]) == {4} and set(lengths[5:]) == {2}
    assert torch.equal(frames[:4], whole[:4]) and not torch.allclose(frames[4:], whole[4:], atol=1e-3)
    assert card.told == ["out of memory while sampling 1 x 4 latents in a pass; going on with 1 x 2 latents"]
    assert [done for done, _ in counts] == list(range(1, len(counts) + 1))
    assert counts[-1][0] == counts[-1][1]


def test_a_second_time_is_an_error_that_says_what_to_do(apart):
    scene, path = apart.encode(small.views()), small.cameras(8)
    card = Card(10)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"sampling, .*views_per_pass.*dtype bf16.*guidance"):
        card.on(apart).render(scene, path)
    assert len(card.told) == 1


def test_other_errors_are_not_taken_for_it(apart):
    def broken(network, needed):
        raise RuntimeError("another fault")

    scene = apart.encode(small.views())
    with pytest.raises(RuntimeError, match="another fault"):
        replace(apart, place=broken).render(scene, small.cameras(3))


def test_without_a_listener_half_a_pass_is_a_warning(apart):
    size = needed(apart, views_per_pass=4)[apart.networks.denoiser]
    model = replace(apart, place=Card(size))
    with pytest.warns(UserWarning, match="going on with 1 x 4 latents"):
        model.render(apart.encode(small.views()), small.cameras(8), views_per_pass=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.render(apart.encode(small.views()), small.cameras(8))


@pytest.mark.parametrize(("tiles", "pieces"), [("off", "64 frames in a piece; going on with 16"), ("on", "16")])
def test_decoding_goes_on_in_smaller_pieces(tiles, pieces, tmp_path):
    model = tiled(tmp_path)
    scene, path = model.encode(small.views()), small.cameras(64)
    autoencoder, latents = model.target_autoencoder, torch.zeros(1, 16, 4, 4, 4)
    fits = autoencoder if tiles == "off" else autoencoder.bounded(8)
    card = Card(2**40)

    def place(network, bytes_):
        return torch.device("cpu") if network is not autoencoder.network else card(network, bytes_)

    span = fits.spans(16)[0].stop
    card.size = fits.decode_bytes(latents[:, :span])
    limited = replace(card.on(model), place=place)
    frames = limited.render(scene, path, steps=1, temporal_tiles=tiles)
    want = replace(model, target_autoencoder=fits).render(scene, path, steps=1, temporal_tiles="on")
    assert (frames - want).abs().max() < SAME
    assert len(card.told) == 1 and pieces in card.told[0]
    card.size = 10
    with pytest.raises(torch.cuda.OutOfMemoryError, match="decoding"):
        limited.render(scene, path, steps=1, temporal_tiles=tiles)


# ---- what is seen on the way -----------------------------------------------------------------------


def test_a_preview_shows_finished_frames_and_those_in_the_works(apart):
    scene, path, sheets = apart.encode(small.views()), small.cameras(40), []
    final = apart.render(scene, path, progress=lambda done, total, preview: sheets.append((done, total, preview())))
    assert [done for done, *_ in sheets] == list(range(1, sheets[0][1] + 1))
    *_, last = sheets[-1]
    assert len(last) == 9
    assert torch.equal(last[:5], final[[0, 9, 18, 26, 35]]) and torch.allclose(last[5:], final[36:], atol=SAME)
    assert len(sheets[0][2]) == 4, "nothing but the first window is in the works at first"


def test_a_cancelled_path_holds_nothing(apart):
    scene, path = apart.encode(small.views()), small.cameras(40)

    def cancel(done, total, preview):
        preview()
        if done == 10:
            raise InterruptedError

    def attempt():
        try:
            apart.render(scene, path, progress=cancel)
        except InterruptedError:
            return True
        return False

    with PeakMemory(*apart.modules) as peak:
        apart.render(scene, path)
        held = peak.held  # views of the caller's own tensors count
        assert attempt()
        assert held == peak.held < FRAME_BYTES * 2 < peak.bytes


def test_heads_of_depth_and_samples_take_passes_too(tmp_path):
    model = load(tmp_path, sampling=APART)
    head = DepthHead.load(small.depth_head(tmp_path / "depth.safetensors", model), model)
    scene, path, rows = model.encode(small.views()), small.cameras(8), []
    head.model.networks.denoiser.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    one = head.render(scene, path)
    many = head.render(scene, path, views_per_pass=8)
    assert torch.allclose(one, many, atol=1e-3) and rows == [1, 1, 2]
    head.render_uncertainty(scene, path, 2, steps=1, views_per_pass=8)
    assert rows == [1, 1, 2, 2, 2]


def test_frames_are_laid_out_as_comfyui_wants_them(apart):
    frames = apart.render(apart.encode(small.views()), small.cameras(5))
    assert frames.movedim(1, -1).is_contiguous()
