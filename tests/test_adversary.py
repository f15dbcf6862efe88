"""Adversarial training: gradients that stay on their side, the adaptive factor, resume and export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scenetok_core.weights.checkpoints import read_tensors
from tests import rae_runs
from tests.fitting import fresh
from tests.rae_runs import SCENES, generator
from training.adversary import Adversaries, adaptive_factor, adversarial_losses, generator_of, parts_of
from training.discriminators import Dinov2Features, Pixels, load_features
from training.state import list_states
from training.tasks import RaeTask, build_task
from training.trainer import Trainer

NOW = {
    "adversary_weight": 0.75, "discriminator": "patch", "adversary_from_disc": 0.0, "adversary_from": 0.0,
    "points_weight": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def task():
    return RaeTask(rae_runs.run(NOW))


@pytest.fixture(scope="module")
def rooms(task):
    return task.dataset(torch.device("cpu")).batch(7, SCENES)


def gradients(task, model, rooms, progress=0.9):
    model.zero_grad()
    losses, logs = task.loss(model, rooms, generator(), progress)
    losses.mean().backward()
    sides = {name: [w.grad for w in part.parameters()] for name, part in parts_of(model).items()}
    return sides, logs


def same(a, b):
    return a is b is None or torch.equal(a, b)


def moved(model):
    """With pictures that depend on every weight; fresh ones are grey."""
    with torch.no_grad():
        model.generator.decoder.to_rgb.weight.normal_(0, 0.1, generator=generator(3))
    return model


def test_the_discriminators_loss_leaves_the_generator_alone(task, rooms):
    off = RaeTask(replace(task.config, task=replace(task.config.task, adversary_from=1.0)))
    plain = RaeTask(rae_runs.run({"points_weight": 0.0}))
    model = moved(fresh(task))
    trained, logs = gradients(off, model, rooms)
    alone, _ = gradients(plain, model.generator, rooms)
    assert all(same(a, b) for a, b in zip(trained["generator"], alone[""], strict=True))
    *others, last_bias = trained["discriminator"]  # the last one moves truth and rendering alike
    assert all(grad is not None and grad.any() for grad in others) and last_bias is not None
    assert "adversary_factor" not in logs and "loss_discriminator" in logs


def test_the_generators_loss_leaves_the_discriminator_alone(task, rooms):
    off = RaeTask(replace(task.config, task=replace(task.config.task, adversary_from=1.0)))
    model = moved(fresh(task))
    unjudged, _ = gradients(off, model, rooms)
    judged, logs = gradients(task, model, rooms)
    assert all(same(a, b) for a, b in zip(unjudged["discriminator"], judged["discriminator"], strict=True))
    sides = zip(unjudged["generator"], judged["generator"], strict=True)
    changed = [not same(a, b) for a, b in sides if a is not None]
    assert sum(changed) > 0.9 * len(changed) and logs["adversary_factor"] > 0


def test_there_is_no_discriminator_before_its_time(task, rooms):
    later = {"adversary_from_disc": 50 / 120, "adversary_from": 0.5}
    task = RaeTask(replace(task.config, task=replace(task.config.task, **later)))
    model = moved(fresh(task))
    for progress, trained, used in ((0.4, False, False), (0.45, True, False), (0.5, True, True)):
        sides, logs = gradients(task, model, rooms, progress)
        assert all((grad is not None) == trained for grad in sides["discriminator"])
        assert ("loss_discriminator" in logs, "adversary_factor" in logs) == (trained, used)


def test_the_factor_balances_the_gradients_at_the_last_layer(task, rooms):
    last = torch.tensor([2.0, 0.0], requires_grad=True)
    wanted, given = 3 * last[0], 0.5 * last[0] + last[1] * 0
    assert float(adaptive_factor(wanted, given, last)) == pytest.approx(6.0, rel=1e-3)
    assert float(adaptive_factor(wanted, 0 * given, last)) == 1e4
    scores = (torch.tensor([[2.0, 0.0]]), torch.tensor([[-2.0, 0.5]]), (last * torch.tensor([1.0, 1.0]))[None])
    losses, logs = adversarial_losses(3 * last[:1], scores, last, 0.75)
    of_judge = 0.5 * ((0 + 0) + (1 + 1.5)) / 2
    factor = 3 / (0.5**2 * 2) ** 0.5
    assert float(logs["adversary_factor"]) == pytest.approx(factor, rel=1e-3)
    assert losses.tolist() == pytest.approx([of_judge + 0.75 * factor * -1.0], rel=1e-3)
    assert (float(logs["score_truth"]), float(logs["score_rendered"])) == (1.0, -0.75)


def test_a_discriminator_learns_to_tell_renderings_from_the_truth(task, rooms):
    model = moved(fresh(task))
    optimizer = torch.optim.AdamW(model.discriminator.parameters(), lr=2e-3)
    for _ in range(12):
        losses, logs = task.loss(model, rooms, generator(), 0.0)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    assert logs["score_truth"] > logs["score_rendered"] + 0.1


def test_a_run_goes_on_exactly_and_its_checkpoint_has_no_discriminator(tmp_path):
    settings = {"adversary_weight": 0.75, "discriminator": "patch", "adversary_from_disc": 0.25, "points_weight": 0.0}
    config = rae_runs.run(settings, output=tmp_path, save_every=1, sheet_every=4, keep_last=9)
    trainer = Trainer(config, build_task(config))
    trainer.train()
    whole = trainer.trained.tensors()
    assert any(name.startswith("optimizer.exp_avg.discriminator.") for name in whole)
    assert any(name.startswith("ema.discriminator.") for name in whole)
    states = list_states(config.run.folder / "states")
    assert not any(name.startswith("optimizer.exp_avg.discriminator") for name in read_tensors(states[0])[0])
    for first in (1, 2):  # from before the discriminator is trained, and from before it is used
        for state in list_states(config.run.folder / "states")[first:]:
            state.unlink()
        resumed = Trainer(config, build_task(config))
        resumed.resume()
        assert resumed.trained.step == first
        resumed.train()
        again = resumed.trained.tensors()
        assert [name for name, value in whole.items() if not torch.equal(value, again[name])] == []
    assert list((config.run.folder / "sheets").iterdir())
    exported, _ = read_tensors(config.run.folder / "model.safetensors")
    assert set(exported) == set(generator_of(trainer.trained.model).state_dict())
    more = replace(config, run=replace(config.run, name="more", init=str(config.run.folder / "model.safetensors")))
    model = Trainer(more, build_task(more)).trained.model
    assert isinstance(model, Adversaries)
    assert torch.equal(model.generator.state_dict()["decoder.to_rgb.weight"], exported["decoder.to_rgb.weight"].float())


def test_gradients_of_both_sides_are_limited_by_themselves(tmp_path):
    config = rae_runs.run(NOW, output=tmp_path)
    trainer = Trainer(replace(config, optim=replace(config.optim, clip=1e-3)), RaeTask(config))
    model = trainer.trained.model
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    norms = trainer._clip()
    assert set(norms) == {"grad_norm", "grad_norm_discriminator"}
    for part in parts_of(model).values():
        norm = torch.cat([torch.as_tensor(weight.grad).flatten() for weight in part.parameters()]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-2)


def tiny_dinov2(folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, patch_size=14, image_size=28, mlp_ratio=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(folder / "dinov2-small")
    return load_features("dinov2-small", folder)


def test_features_of_a_frozen_network_are_read_but_not_kept(tmp_path, rooms):
    features = tiny_dinov2(tmp_path)
    assert isinstance(features, Dinov2Features) and features.channels == (16,) * 4
    maps = features(torch.rand(2, 3, 40, 30))
    assert [x.shape for x in maps] == [(2, 16, 3, 2)] * 4
    torch.testing.assert_close(maps[0].var(1, correction=0), torch.ones(2, 3, 2), atol=0.05, rtol=0)
    settings = {**NOW, "discriminator": "dinov2-small"}
    task = RaeTask(rae_runs.run(settings, autoencoders=str(tmp_path)))
    assert task.frozen == {"discriminator": features.digest}
    model = moved(fresh(task))
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("discriminator.")} == {"heads"}
    sides, logs = gradients(task, model, rooms)
    assert all(grad is not None for grad in sides["discriminator"]) and logs["adversary_factor"] > 0
    network = features.network
    assert network is not None and all(weight.grad is None for weight in network.parameters())


def test_missing_weights_are_named_with_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    (tmp_path / "dinov2-small").mkdir()
    with pytest.raises(ValueError, match=r"no weights in .*dinov2-small, nor .*set task\.discriminator = 'patch'"):
        load_features("dinov2-small", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs the package transformers: pip install transformers"):
        load_features("dinov2-small", tmp_path)
    assert isinstance(load_features("patch", tmp_path), Pixels)
