"""Which frames of a walk are inputs and which are targets."""

import pytest
import torch

from tests.fitting import generator
from training.tasks.views import choose_run, choose_views

WALK, STRAYS, CONTEXT, TARGETS, SCENES = 6, 3, 4, 3, 3
SEED = 7


def chosen(strays=STRAYS, context=CONTEXT, targets=TARGETS, far=True, scenes=SCENES, seed=SEED):
    return choose_views(WALK, strays, context, targets, far=far, scenes=scenes, generator=generator(seed))


def rows(draw):
    """Inputs and targets of every scene as lists."""
    return zip(*(views.tolist() for views in draw), strict=True)


def test_far_targets_are_strays_first_and_never_inputs():
    for inputs, targets in rows(chosen(strays=1, scenes=50)):
        assert len(set(inputs)) == CONTEXT and set(inputs) <= set(range(WALK))
        assert WALK in targets and len(set(targets)) == TARGETS
        assert not set(inputs) & set(targets)
        assert inputs == sorted(inputs) and targets == sorted(targets)


def test_near_targets_are_inputs():
    for context, most in ((2, 2), (CONTEXT, TARGETS)):
        for inputs, targets in rows(chosen(context=context, far=False, scenes=50)):
            assert len(set(targets)) == most and set(targets) <= set(inputs)


def test_too_few_pictures_for_far_targets_are_refused():
    with pytest.raises(ValueError, match="3 targets besides 6 inputs need more pictures than 6 frames and 2 strays"):
        chosen(strays=2, context=WALK)


def test_views_are_chosen_by_the_generator_alone_and_for_every_scene_anew():
    state = torch.get_rng_state()
    first, again, other = (list(rows(chosen(seed=seed))) for seed in (1, 1, 2))
    assert first == again and first != other
    assert torch.equal(torch.get_rng_state(), state)
    assert len({(*inputs, *targets) for inputs, targets in rows(chosen(scenes=50))}) > 10, "of 15"


def test_runs_are_consecutive_and_anywhere_on_the_walk():
    runs = choose_run(WALK, 4, scenes=200, generator=generator())
    assert (runs.diff(dim=1) == 1).all()
    assert set(runs[:, 0].tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="7 consecutive frames need a longer walk than 6"):
        choose_run(WALK, 7, scenes=1, generator=generator())
