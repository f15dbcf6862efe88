"""The reference formulation computes what ours computes, and the comparison measures both."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import long_paths, qualities, rae, reference, run
from benchmarks.random_models import random_weights
from scenetok_core.autoencoders.vavae import VaVae, VaVaeConfig
from scenetok_core.autoencoders.vavae import published_shapes as vavae_shapes
from scenetok_core.autoencoders.videodc import VideoDcAutoencoder, VideoDcConfig
from scenetok_core.autoencoders.videodc import published_shapes as videodc_shapes
from scenetok_core.configs import DecoderConfig, Dit3dConfig, GeneratorConfig, RaeConfig, SamplingConfig
from scenetok_core.models.decoder import Decoder
from scenetok_core.models.networks import sample_latents
from scenetok_core.models.scenegen import SceneGen, sample_tokens
from scenetok_core.nn.rope import AxialRope
from scenetok_core.pipeline import SceneTok
from scenetok_core.sampling import make_schedule
from tests import small

SIDE, RAYS, WINDOW = 2, 4, 3
SMALL_VIDEODC = VideoDcConfig(
    widths=(32, 32, 32), encoder_depths=(1, 1, 1), decoder_depths=(1, 1, 1), blocks=("ResBlock",) * 2 + ("EViTS5_GLU",),
    temporal_down=(True, True, False), latent_channels=16,
)  # fmt: skip
SMALL_VAVAE = VaVaeConfig(
    channels=32, multipliers=(1, 2), res_blocks=1, latent_channels=4, mean=(0.5,) * 4, std=(2.0,) * 4
)


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def network(built):
    built.load_state_dict(random_weights({name: tensor.shape for name, tensor in built.state_dict().items()}))
    return built.eval().requires_grad_(False)


def test_the_reference_decoder_step_is_ours():
    config = DecoderConfig(
        hidden=32, depth=2, heads=2, token_dim=8, latent_channels=5, ray_map=SIDE * RAYS, ray_patch=RAYS
    )
    decoder = network(Decoder(config))
    noisy, t = draw(1, WINDOW, 5, SIDE, SIDE), draw(1, WINDOW).sigmoid()
    rays, tokens = draw(1, WINDOW, 4, 6, SIDE * RAYS, SIDE * RAYS), draw(1, 6, 8)
    theirs = reference.decoder_step(decoder, noisy, t, rays, tokens, AxialRope((WINDOW, SIDE, SIDE), 16))
    ours = decoder(noisy, t, decoder.embed_rays(rays), decoder.condition(tokens))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    schedule = make_schedule("full_sequence", horizon=WINDOW, steps=2, window=WINDOW, clean_targets=1)
    ours = sample_latents(decoder, tokens, rays, noisy, schedule)
    torch.testing.assert_close(reference.render(decoder, rays, tokens, noisy, schedule), ours, atol=1e-5, rtol=0)


def test_the_reference_guided_step_is_ours():
    config = GeneratorConfig(
        hidden=32, depth=2, heads=2, tokens=6, token_dim=8, latent_channels=5, ray_map=SIDE * RAYS, ray_patch=RAYS
    )
    model, noise = network(SceneGen(config)), draw(1, 6, 8)
    latents, rays = draw(1, 3, 5, SIDE, SIDE), draw(1, 3, 6, SIDE * RAYS, SIDE * RAYS)
    anchors, seen = draw(1, 4, 6, SIDE * RAYS, SIDE * RAYS), torch.tensor([[True, True, False]])
    theirs = noise - reference.guided_step(model, noise, torch.ones(1), latents, rays, anchors, seen, 3.0)
    one_step = make_schedule("full_sequence", horizon=1, steps=1, window=1, clean_targets=0)
    ours = sample_tokens(model, model.condition(latents[:, :2], rays[:, :2], anchors), noise, one_step, guidance=3.0)
    torch.testing.assert_close(theirs, ours * config.token_scale, atol=1e-5, rtol=0)
    drawn = reference.draw(model, latents, rays, anchors, seen, noise, one_step, 3.0)
    torch.testing.assert_close(drawn, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_plain_autoencoders_are_ours(dtype, tolerance):
    video = VideoDcAutoencoder(random_weights(videodc_shapes(SMALL_VIDEODC)), SMALL_VIDEODC, dtype)
    latents = draw(1, 2, 16, 4, 4)
    theirs = reference.PlainVideoDc(video).decode(latents)
    torch.testing.assert_close(theirs, video.decode(latents), atol=tolerance, rtol=0)
    image = VaVae(random_weights(vavae_shapes(SMALL_VAVAE)), SMALL_VAVAE, dtype)
    pictures = draw(1, 3, 3, 8, 8).sigmoid()
    theirs = reference.PlainVaVae(image).encode(pictures)
    torch.testing.assert_close(theirs, image.encode(pictures), atol=tolerance, rtol=0)


def test_rows_compare_each_dtype_and_ours_in_bfloat16_with_the_reference_in_float32(tmp_path, monkeypatch, capsys):
    calls = []

    def called(name, dtype):
        calls.append((name, dtype))
        return torch.zeros(1)

    def case(settings, dtype):
        return run.Pair(
            "case",
            dtype,
            reference=lambda: called("reference", dtype),
            ours=lambda: called("ours", dtype),
            network=nn.Linear(4, 4, bias=False, dtype=dtype),
        )

    monkeypatch.setattr(run, "CASES", {"case": run._in_both(case)})
    clock = {"reference": {torch.float32: 6.0, torch.bfloat16: 3.0}, "ours": {torch.float32: 4.0, torch.bfloat16: 1.5}}

    def seconds(function, device):
        function()
        name, dtype = calls[-1]
        return clock[name][dtype]

    monkeypatch.setattr(run.machine, "seconds", seconds)
    monkeypatch.setattr(run.machine, "peak_bytes", lambda function, device: 2**30)
    assert run.main(["--only", "case", "--seconds", "0", "--device", "cpu", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["dtype"], row["ratio"]) for row in rows] == [
        ("float32", 1.5), ("bfloat16", 2.0), ("bfloat16 : float32", 4.0)
    ]  # fmt: skip
    assert rows[0]["peak_gib"] == pytest.approx(1 + 64 / 2**30)
    assert set(rows[0]) == {"name", "dtype", "device", "reference_s", "ours_s", "ratio", "peak_gib"}
    assert calls == [(name, dtype) for dtype in (torch.float32, torch.bfloat16) for name in ("reference", "ours")]
    assert "| case | float32 | 6 | 4 | 1.50 |" in capsys.readouterr().out


def test_a_scene_is_drawn_rendered_and_decoded_by_both(monkeypatch):
    grid: dict[str, Any] = {
        "hidden": 32, "depth": 1, "heads": 2, "token_dim": 8, "ray_map": SIDE * RAYS, "ray_patch": RAYS
    }  # fmt: skip
    monkeypatch.setattr(run, "GeneratorConfig", lambda: GeneratorConfig(**grid, tokens=6, latent_channels=5))
    monkeypatch.setattr(run, "DecoderConfig", lambda: DecoderConfig(**grid, latent_channels=16))
    weights = random_weights(videodc_shapes(SMALL_VIDEODC))
    monkeypatch.setattr(
        run, "random_autoencoder", lambda name, dtype, device: VideoDcAutoencoder(weights, SMALL_VIDEODC, dtype)
    )
    with torch.no_grad():
        (pair,) = run.scene(run.Settings(torch.device("cpu"), quick=False, seconds=0))
        assert pair.name == "2 guided SceneGen steps, then 32 frames in 2 steps, decoded"
        frames = pair.ours()
        torch.testing.assert_close(pair.reference(), frames, atol=0.05, rtol=0)
    assert frames.shape == (1, 32, 3, 8, 8) and frames.std() > 0.01


@pytest.mark.parametrize(("options", "left_out"), [(["--quick"], {"scene"}), ([], set())])
def test_a_quick_comparison_leaves_out_the_whole_scene(monkeypatch, options, left_out):
    measured = []
    monkeypatch.setattr(
        run, "CASES", {name: lambda settings, name=name: measured.append(name) or [] for name in run.CASES}
    )
    monkeypatch.setattr(run, "measure", lambda case, settings: case(settings))
    assert run.main([*options, "--device", "cpu"]) == 0
    assert set(run.CASES) - set(measured) == left_out


def test_cards_run_one_part_at_a_time_and_tell_what_does_not_fit(monkeypatch):
    caps, device = [], torch.device("cpu")

    def part(gib):
        def ours():
            if caps[-1] * 80 < gib:
                raise torch.OutOfMemoryError("too small")
            return torch.zeros(1)

        return run.Pair("part", torch.float32, ours, ours, nn.Linear(1, 1))

    properties = type("Properties", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: caps.append(share))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(run.machine, "seconds", lambda function, device: (function(), 2.0)[1])
    lines = run.cards([part(4), part(10)], [8, 12, 160], device).splitlines()
    assert lines[2:] == ["| 8 | out of memory |", "| 12 | 4 |", "| 160 | 4 |"]
    assert caps == [0.1, 0.15, 1.0, 1.0], "at most the whole card, and the cap is lifted at the end"


def test_cards_need_a_gpu(capsys):
    with pytest.raises(SystemExit):
        run.main(["--cards", "8", "--device", "cpu"])
    assert "NVIDIA" in capsys.readouterr().err


def test_long_paths_are_compared_and_take_less_memory_window_by_window(tmp_path, capsys):
    options = ["--quick", "--frames", "4", "12", "--seconds", "0", "--device", "cpu"]
    assert long_paths.main([*options, "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["frames"] for row in rows] == [4] * 3 + [12] * 3
    peaks = {(row["frames"], row["how"]): row["peak_mib"] for row in rows}
    grown = {how: peaks[12, how] - peaks[4, how] for how in ("at once", "window by window")}
    assert grown["window by window"] < grown["at once"] / 2
    assert "| 12 | window by window |" in capsys.readouterr().out


def test_frames_of_other_formulations_are_refused(monkeypatch):
    plain = long_paths.at_once
    monkeypatch.setattr(long_paths, "at_once", lambda *given: plain(*given) + 0.01)
    with pytest.raises(ValueError, match=r"window by window: frames differ by 0\.01"):
        long_paths.main(["--quick", "--frames", "4", "--device", "cpu"])


def test_qualities_are_measured_against_truth_and_a_finer_solution(tmp_path):
    model, views = SceneTok.load(small.checkpoint(tmp_path)), small.views()
    lines = qualities.table(model, model.encode(views), views, seeds=2, reference_steps=24).splitlines()
    figures = {line.split("|")[1].strip(): [float(x) for x in line.split("|")[2:-1]] for line in lines[2:]}
    steps = model.config.sampling.steps
    assert figures["best"][:3] == figures[f"{4 * steps} steps, ab2"][:3]
    assert figures[f"{8 * steps} steps, ab2"][2] == 0, "that is the finer solution here"
    assert figures["draft"][2] > figures["normal"][2] > figures["best"][2]


def test_a_3drae_and_a_3ddit_are_measured_with_either_attention():
    autoencoder = RaeConfig(
        "small", encoder=None, pixels=(784, 784), hidden=16, heads=2, tokens=4, token_dim=6, neck_depth=1,
        decoder_depth=2, points=None,
    )  # fmt: skip
    generator = Dit3dConfig(
        "drawer", scene_model="small", tokens=4, token_dim=6, hidden=16, depth=1, heads=2, head_hidden=16,
        head_depth=1, head_heads=2, cond_views=3, sampling=SamplingConfig(4, guidance=2.0, window=1, clean_targets=0),
    )  # fmt: skip
    settings = rae.Settings(torch.device("cpu"), torch.float32, 0, 2, autoencoder, generator, views=3, side=28)
    rows = rae.measure(settings)
    whole, separate, together, drawn = rows
    assert whole.tera_operations > separate.tera_operations < together.tera_operations
    assert separate.seconds < whole.seconds
    assert (whole.paper_seconds, separate.paper_seconds, drawn.paper_seconds) == (0.23, None, 1.98)
    assert drawn.measured == "2 of 4 steps, times 2"
    full = rae.measure(replace(settings, steps=None, repeats=1))[-1]
    assert full.measured == "all" and full.tera_operations == pytest.approx(drawn.tera_operations, rel=1e-3)
    rate = 4 * whole.tera_operations * 1e12 / whole.seconds
    assert rae.table(rows, rate).count("\n") == 5 and "| 25% | 0.23 s |" in rae.table(rows, rate)


def test_operations_of_attention_are_counted_on_a_cpu():
    q = draw(1, 2, 4, 8)
    settings = rae.Settings(torch.device("cpu"), torch.float32, 1)
    (cost,) = rae.costs(settings, [lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)])
    assert cost.operations == 2 * 2 * 2 * 4 * 4 * 8
