"""Tokens in training: some are dropped, all are disturbed, neither of them at first."""

import torch

from tests.test_tasks import EARLY, LATE, SCENES, generator, run_config
from training.tasks import SceneTokTask

TOKENS = 10


def tagged_tokens():
    """Tokens [B, N, 2] that tell their scene and their place."""
    scene = torch.arange(SCENES, dtype=torch.float32)[:, None].expand(SCENES, TOKENS)
    return torch.stack([scene, torch.arange(TOKENS, dtype=torch.float32).expand(SCENES, TOKENS)], -1)


def test_dropping_keeps_some_tokens_of_each_scene():
    task, counts, subsets = SceneTokTask(run_config(token_drop=1.0, token_keep=0.3)), set(), set()
    for seed in range(40):
        kept = task.edit(generator(seed), LATE)(tagged_tokens())
        counts.add(kept.shape[1])
        for scene, tokens in enumerate(kept):
            assert (tokens[:, 0] == scene).all(), "tokens of another scene"
            assert len(tokens[:, 1].unique()) == kept.shape[1], "a token twice"
            subsets.add(tuple(sorted(tokens[:, 1].tolist())))
    assert min(counts) == round(0.3 * TOKENS) and max(counts) >= TOKENS - 1
    assert len(subsets) > 40, "scenes lose different tokens"


def test_tokens_are_left_alone_at_first_and_when_nothing_is_asked():
    given = tagged_tokens()
    early = SceneTokTask(run_config(token_drop=1.0, token_noise=0.5)).edit(generator(), EARLY)
    never = SceneTokTask(run_config(token_drop=0.0, token_noise=0.0)).edit(generator(), LATE)
    assert torch.equal(early(given), given) and torch.equal(never(given), given)


def test_noise_on_tokens_stays_below_its_limit():
    task, given = SceneTokTask(run_config(token_drop=0.0, token_noise=0.5)), torch.zeros(SCENES, 500, 8)
    spread = [float(task.edit(generator(seed), LATE)(given).std()) for seed in range(20)]
    assert max(spread) < 0.52 and max(spread) > 0.3 and min(spread) < 0.2
