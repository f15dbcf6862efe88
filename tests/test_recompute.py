"""Gradient checkpointing: the same gradients for less memory."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests import small
from tests.memory import PeakMemory
from tests.processes import write_run
from training.distribute import network_blocks, recompute_blocks
from training.tasks import build_task, load_config
from training.trainer import Trainer

DEPTH, BATCH, VIEWS = 6, 4, 4
SIDE = small.IMAGE // small.PATCH


def networks(recompute):
    plain = small.config()
    config = replace(
        plain, compressor=replace(plain.compressor, depth=DEPTH), decoder=replace(plain.decoder, depth=DEPTH)
    )
    model = small.Networks(config)
    model.load_state_dict(small.state(config))
    if recompute:
        recompute_blocks(model)
    return model


def loss(model):
    generator = torch.Generator().manual_seed(0)
    latents, noisy = torch.randn(2, BATCH, VIEWS, 3 * small.PATCH**2, SIDE, SIDE, generator=generator)
    rays = torch.randn(BATCH, VIEWS, 6, 2 * SIDE, 2 * SIDE, generator=generator)
    t = torch.rand(BATCH, VIEWS, generator=generator)
    out, posterior = model(latents, rays, noisy, t, rays[:, :, None])
    return out.square().mean() + posterior.mean.square().mean()


def test_gradients_are_the_same_and_every_block_runs_twice():
    gradients, runs = [], []
    for recompute in (False, True):
        model, count = networks(recompute), []
        for block in network_blocks(model):
            block.norm2.register_forward_hook(lambda *_, count=count: count.append(1))
        loss(model).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
        runs.append(len(count))
    assert runs == [2 * DEPTH, 4 * DEPTH]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is None or torch.equal(gradient, gradients[1][name]), name
    assert sum(gradient is not None for gradient in gradients[0].values()) > 100


def test_peak_memory_of_a_step_is_less():
    peaks = []
    for recompute in (False, True):
        model = networks(recompute)
        with PeakMemory(model) as memory:
            loss(model).backward()
        gradients = sum(w.grad.nbytes for w in model.parameters() if w.grad is not None)
        peaks.append(memory.bytes - gradients)
    assert peaks[1] < 0.4 * peaks[0], peaks


def test_compiled_blocks_are_captured_whole():
    graphs, outcomes = [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    for compiled in (False, True):
        block = next(iter(network_blocks(networks(recompute=True).compressor)))
        if compiled:
            block.compile(backend=backend, fullgraph=True)
        tokens, views = torch.linspace(-1, 1, 2 * BATCH * 4 * 32).view(2, BATCH, 4, 32).requires_grad_()
        out, _ = block(tokens, views, torch.ones(BATCH, 4, 32))
        out.square().sum().backward()
        outcomes.append([out.detach(), *(weight.grad for weight in block.parameters())])
    assert len(graphs) == 1
    assert all(a is b or torch.allclose(a, b, atol=1e-5) for a, b in zip(*outcomes, strict=True))


def test_a_run_with_it_is_the_same_run(tmp_path):
    states = []
    for value in ("false", "true"):
        overrides = [f"run.output='{tmp_path / value}'", f"run.gradient_checkpointing={value}", "run.steps=2"]
        config = load_config(write_run(tmp_path), [*overrides, "run.mixed_precision=bf16"])
        trainer = Trainer(config, build_task(config))
        trainer.train()
        states.append(trainer.trained.tensors())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
