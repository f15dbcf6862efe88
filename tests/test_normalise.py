"""Statistics of a 3DRAE's tokens: measured, stored, and without effect on what is rendered."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from scenetok_core.configs import PointsConfig, RaeConfig
from scenetok_core.models.rae import RaeNetworks
from scenetok_core.rae import Rae
from scenetok_core.weights.checkpoints import load_checkpoint, save_checkpoint
from tests import small
from training.normalise import main, measure, training_views
from training.tasks import load_config
from training.tasks.rae import RaeTrainConfig

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "configs"
RUN = str(CONFIGS / "rae_tiny.toml")
OVERRIDES = [
    "data.rooms.image_size=16",
    "data.scenes=3",
    "data.context_views=4",
    "data.rooms.textures=8",
    "data.rooms.texture_size=16",
]
SCENES, HIDDEN = 8, 16


def small_rae(token_dim=6):
    return RaeConfig(
        "small", encoder=None, patch=8, pixels=(256, 256), hidden=HIDDEN, heads=2, tokens=4, token_dim=token_dim,
        neck_depth=1, decoder_depth=2, points=PointsConfig(4, (0, 1, 2, 3), (4, 4, 4, 4), 4),
    )  # fmt: skip


def checkpoint(path, token_dim, dtype=torch.float32):
    config = small_rae(token_dim)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = RaeNetworks(config).state_dict()
    save_checkpoint(path, {key: tensor.to(dtype) for key, tensor in state.items()}, config, {"run": "small"})
    return path


def run(path, out, *more):
    sets = [word for setting in OVERRIDES for word in ("--set", setting)]
    return main(
        [
            "--checkpoint",
            str(path),
            "--config",
            RUN,
            *sets,
            "--scenes",
            str(SCENES),
            "--out",
            str(out),
            "--device",
            "cpu",
            *more,
        ]
    )


def seen():
    config = load_config(RUN, OVERRIDES)
    assert isinstance(config, RaeTrainConfig)
    return training_views(config, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("token_dim", [HIDDEN, 6])  # without and with a layer between tokens and decoder
def test_tokens_are_normalised_and_pictures_stay(tmp_path, token_dim, dtype, capsys):
    path, out = checkpoint(tmp_path / "in.safetensors", token_dim, dtype), tmp_path / "out.safetensors"
    assert run(path, out) == 0
    assert f"over {SCENES} scenes" in capsys.readouterr().out
    before, after = (Rae.load(file, dtype=torch.float32) for file in (path, out))
    tokens = torch.cat([after.encode(views).tokens for views in islice(seen(), SCENES)])
    torch.testing.assert_close(tokens.mean(0), torch.zeros(token_dim), atol=1e-3, rtol=0)
    torch.testing.assert_close(tokens.std(0, correction=0), torch.ones(token_dim), atol=1e-3, rtol=0)
    views, path_cameras = small.views(), small.cameras(3)
    raw, scene = before.encode(views), after.encode(views)
    assert (scene.tokens - raw.tokens).abs().max() > 0.1
    rendered = before.render(raw, path_cameras)
    assert rendered.std() > 0.05
    torch.testing.assert_close(after.render(scene, path_cameras), rendered, atol=1e-5, rtol=0)
    placed = [model.point_maps(tokens, path_cameras).points for model, tokens in ((before, raw), (after, scene))]
    torch.testing.assert_close(placed[1], placed[0], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="small"):
        after.render(raw, path_cameras)  # tokens of the file before


def test_every_token_may_have_statistics_of_its_own(tmp_path):
    path, out, again = (tmp_path / name for name in ("in.safetensors", "out.safetensors", "again.safetensors"))
    checkpoint(path, 6)
    assert run(path, out, "--statistics", "token") == 0
    before, after = (Rae.load(file, dtype=torch.float32) for file in (path, out))
    tokens = torch.stack([after.encode(views).tokens for views in islice(seen(), SCENES)])
    torch.testing.assert_close(tokens.mean(0), torch.zeros_like(tokens[0]), atol=1e-3, rtol=0)
    assert tokens.std(0, correction=0).median() == pytest.approx(1, abs=1e-2)
    views, cameras = small.views(), small.cameras(3)
    rendered = before.render(before.encode(views), cameras)
    torch.testing.assert_close(after.render(after.encode(views), cameras), rendered, atol=1e-5, rtol=0)
    assert run(out, again) == 0  # as the checkpoint has them
    assert Rae.load(again).config.statistics == "token"


def test_measuring_again_finds_the_same(tmp_path):
    first, second, third = (tmp_path / f"{i}.safetensors" for i in range(3))
    checkpoint(first, 6)
    assert run(first, second) == run(second, third) == 0
    (once, _, metadata), (twice, *_) = load_checkpoint(second, RaeConfig), load_checkpoint(third, RaeConfig)
    assert (once["neck.std"] - 1).abs().max() > 0.1
    for name, tensor in once.items():
        torch.testing.assert_close(twice[name], tensor, atol=1e-4, rtol=1e-4)
    assert metadata["run"] == "small" and metadata["statistics"] == f"of {SCENES} scenes"


def test_a_dimension_that_never_changes_stays_finite():
    model = Rae(config := small_rae(), RaeNetworks(config).eval().requires_grad_(False), None, "hash")
    model.networks.neck.to_tokens = torch.nn.Linear(HIDDEN, 6)
    torch.nn.init.zeros_(model.networks.neck.to_tokens.weight)
    mean, std = measure(model, iter([small.views()] * 2), 2, "dimension")
    assert mean.isfinite().all() and (std > 0).all()


def test_what_cannot_be_done_is_refused(tmp_path, caplog):
    path = checkpoint(tmp_path / "in.safetensors", 6)
    assert run(path, path) == 2 and "--out must be another file than --checkpoint" in caplog.text
    assert run(tmp_path / "none.safetensors", tmp_path / "out.safetensors") == 2 and "no such file" in caplog.text
    assert run(small.checkpoint(tmp_path), tmp_path / "out.safetensors") == 2
    assert "is a SceneTok model, not a 3DRAE model" in caplog.text
    other = [
        "--checkpoint",
        str(path),
        "--config",
        str(CONFIGS / "tiny.toml"),
        "--out",
        str(tmp_path / "out.safetensors"),
    ]
    assert main(other) == 2 and "trains a 'scenetok'" in caplog.text
    assert main([*other, "--scenes", "0"]) == 2 and "--scenes must be at least 1, got 0" in caplog.text
    assert not (tmp_path / "out.safetensors").exists()
