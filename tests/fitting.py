"""What the tests of several tasks do with a model: fit it to one batch, and follow its gradients."""

import torch

SEED, RATE = 7, 5e-3
EXACT = {"mixed_precision": "no"}  # of a run; not for a Trainer, as a process has one precision


def generator(seed=SEED):
    return torch.Generator().manual_seed(seed)


def fresh(task):
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return task.build()


def fit(task, batch, steps):
    """A model after `steps` on one batch with the same draws, and its losses."""
    model, history = fresh(task), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(steps):
        losses, _ = task.loss(model, batch, generator(), 0.0)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        history.append(float(losses.detach().mean()))
    return model, history


def assert_losses_reach_every_weight(task, batch):
    """Losses depend on the generator alone, one a scene, and every weight has a gradient after a few steps."""
    model, _ = fit(task, batch, steps=3)
    torch.manual_seed(0)
    first, _ = task.loss(model, batch, generator(1), 0.0)
    torch.manual_seed(1)
    again, _ = task.loss(model, batch, generator(1), 0.0)
    other, _ = task.loss(model, batch, generator(2), 0.0)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (task.config.data.scenes,)
    model.zero_grad()
    first.mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def assert_frozen_precision(exact, rough, tokens):
    """Of two tasks, with `mixed_precision` "no" and "bf16", the latter's frozen model rounds, and little."""
    first, second = tokens(exact), tokens(rough)
    assert first.dtype == second.dtype == torch.float32
    error = (first - second).norm() / first.norm()
    assert 1e-4 < error < 3e-2, error
