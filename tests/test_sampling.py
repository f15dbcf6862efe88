"""Schedules and the sampling loop."""

from itertools import pairwise

import pytest
import torch

from scenetok_core.flow import guide, interpolate, shift_time, to_clean, to_velocity
from scenetok_core.sampling import Schedule, denoise, make_schedule

SETTINGS = {"horizon": 9, "steps": 4, "window": 5, "clean_targets": 2}
NAMES = ["full_sequence", "autoregressive", "pyramid"]
MEAN, SPREAD = 0.7, 0.5  # of the Gaussian data whose flow is known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings", [SETTINGS, {**SETTINGS, "horizon": 3}, {**SETTINGS, "steps": 1, "clean_targets": 0}]
)
def test_schedules_fall_from_one_to_zero_inside_their_window(name, settings):
    schedule = make_schedule(name, **settings)
    sigma, active = schedule.sigma, schedule.active
    assert (sigma[0] == 1).all() and (sigma[-1] == 0).all()
    change = sigma[:-1] - sigma[1:]
    assert (change >= 0).all()
    assert (change.sum(0) == 1).all()
    assert ((change > 0) <= active[:-1]).all(), "a latent moves only inside the window"
    assert (change > 0).any(1).all(), "every step does something"
    assert (active.sum(1) == min(settings["window"], settings["horizon"])).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_later_window_sees_clean_context(name):
    schedule = make_schedule(name, **SETTINGS)
    starts = [schedule.window(row).start for row in range(schedule.steps)]
    assert starts == sorted(starts) and starts[-1] == SETTINGS["horizon"] - SETTINGS["window"]
    for row in range(1, schedule.steps):
        if starts[row] != starts[row - 1]:
            window = schedule.sigma[row, schedule.window(row)]
            assert (window[: SETTINGS["clean_targets"]] == 0).all()


@pytest.mark.parametrize("clean", [5, 7, -1])
def test_a_window_that_never_advances_is_refused(clean):
    with pytest.raises(ValueError, match="less than the window"):
        make_schedule("full_sequence", **{**SETTINGS, "clean_targets": clean})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "at least one latent"),
        ({"steps": 0}, "at least one latent and one step"),
        ({"group": 5}, "multiples of 5"),
        ({"shift": 0.0}, "shift must be positive"),
        ({"uncertainty": -1}, "uncertainty must be between 0 and the 4 steps of a latent, got -1"),
        ({"uncertainty": 5}, "uncertainty must be between 0 and the 4 steps of a latent, got 5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_schedule("full_sequence", **{**SETTINGS, **change})
    with pytest.raises(ValueError, match="unknown schedule 'spiral'"):
        make_schedule("spiral", **SETTINGS)


def test_grouped_windows_move_by_whole_groups():
    schedule = make_schedule("full_sequence", horizon=20, steps=3, window=10, clean_targets=5, group=5)
    assert {schedule.window(row).start for row in range(schedule.steps)} == {0, 5, 10}


@pytest.mark.parametrize("uncertainty", [0, 1, 2, 3, 4])
def test_a_slanted_front_always_ends(uncertainty):
    for window in (2, 3, 5):
        for clean in range(window):
            schedule = make_schedule(
                "pyramid", horizon=9, steps=4, window=window, clean_targets=clean, uncertainty=uncertainty
            )
            assert (schedule.sigma[-1] == 0).all()


def test_shift_keeps_the_ends_and_raises_the_middle():
    t = torch.tensor([0.0, 0.5, 1.0])
    assert shift_time(t, 4.0).tolist() == pytest.approx([0.0, 0.8, 1.0])
    assert torch.equal(shift_time(t, 1.0), t)


@pytest.mark.parametrize("kind", ["v", "x"])
def test_velocity_and_clean_agree_for_both_predictions(kind):
    clean, noise, t = torch.randn(3), torch.randn(3), torch.tensor(0.6)
    noisy = interpolate(clean, noise, t)
    output = noise - clean if kind == "v" else clean
    assert torch.allclose(to_velocity(output, kind, noisy, t), noise - clean, atol=1e-5)
    assert torch.allclose(to_clean(output, kind, noisy, t), clean, atol=1e-5)


def test_guidance_of_one_is_the_conditional():
    c, u = torch.randn(2, 4)
    assert torch.allclose(guide(c, u, 1.0), c, atol=1e-6)
    assert torch.allclose(guide(c, u, 3.0), u + 3 * (c - u))


@pytest.mark.parametrize("name", NAMES)
def test_the_true_velocity_field_leads_to_the_data(name):
    data, noise = torch.randn(2, 1, 9, 3)
    schedule = make_schedule(name, **SETTINGS)
    before = noise.clone()
    seen = []

    def note(done, total, preview):
        seen.append((done, total, preview()))

    result = denoise(lambda x, t, window: (noise - data)[:, window], noise, schedule, note)
    assert torch.allclose(result, data, atol=1e-5)
    assert torch.equal(noise, before), "the caller's noise is not changed"
    assert [done for done, _, _ in seen] == list(range(1, schedule.steps + 1))
    assert torch.allclose(seen[-1][2], data, atol=1e-5)


def test_progress_can_cancel():
    def cancel(done, total, preview):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(lambda x, t, window: x, torch.randn(1, 9, 2), make_schedule("pyramid", **SETTINGS), cancel)


def of_table(sigma, active):
    """The schedule of a whole table of levels."""
    starts = active.int().argmax(1)
    windows = starts[:-1, None] + torch.arange(int(active[0].sum()))
    levels = torch.stack([sigma[:-1].gather(1, windows), sigma[1:].gather(1, windows)], dim=1)
    return Schedule(sigma.shape[1], starts, levels)


def test_noise_must_fit_the_schedule():
    schedule = of_table(torch.tensor([[1.0], [0.0]]), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="1 latents, the noise has 2"):
        denoise(lambda x, t, window: x, torch.randn(1, 2, 2), schedule)


def gaussian_velocity(x, t, window):
    """E[noise - data | x] for data of `MEAN` and `SPREAD`; the flow from noise z ends at MEAN + SPREAD z."""
    t = t.double()[..., None]
    slope = (t - (1 - t) * SPREAD**2) / (((1 - t) * SPREAD) ** 2 + t**2)
    return slope * (x - (1 - t) * MEAN) - MEAN


def gaussian_noise(latents):
    return torch.randn(1, latents, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("ab2", 2)])
@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_with_the_order_of_the_solver(name, solver, order):
    noise, errors = gaussian_noise(9), []
    for steps in (16, 32, 64):
        schedule = make_schedule(name, **{**SETTINGS, "steps": steps}, uncertainty=steps // 2, shift=0.7)
        result = denoise(gaussian_velocity, noise, schedule, solver=solver)
        errors.append((result - MEAN - SPREAD * noise).abs().mean().item())
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.05)


def test_every_solver_evaluates_the_velocity_once_per_step():
    schedule = make_schedule("full_sequence", **SETTINGS)
    for solver in ("euler", "ab2"):
        calls = []
        denoise(
            lambda x, t, window, calls=calls: calls.append(window) or x, torch.randn(1, 9, 2), schedule, None, solver
        )
        assert len(calls) == schedule.steps


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_the_same_for_all_solvers(name):
    noise, schedule = gaussian_noise(9), make_schedule(name, **{**SETTINGS, "steps": 1})
    euler, other = (denoise(gaussian_velocity, noise, schedule, solver=solver) for solver in ("euler", "ab2"))
    assert torch.equal(euler, other)


@pytest.mark.parametrize(("last_window", "same"), [([True, True, False], False), ([False, True, True], True)])
def test_the_step_after_a_window_moved_is_eulers(last_window, same):
    sigma = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 1.0]])
    active = torch.tensor([[True, True, False], last_window, last_window])
    schedule, noise = of_table(sigma, active), gaussian_noise(3)
    euler, other = (denoise(gaussian_velocity, noise, schedule, solver=solver) for solver in ("euler", "ab2"))
    assert torch.equal(euler, other) == same


def test_latents_that_are_given_or_rest_do_not_disturb_the_second_order_solver():
    given, early, late = [0.0] * 5, [1.0, 0.7, 0.3, 0.0, 0.0], [1.0, 1.0, 0.7, 0.3, 0.0]
    noise = gaussian_noise(3)

    def solve(*levels):
        sigma = torch.tensor(levels).T
        schedule = of_table(sigma, torch.ones(sigma.shape, dtype=torch.bool))
        return denoise(gaussian_velocity, noise[:, -len(levels) :], schedule, solver="ab2")

    together = solve(given, early, late)
    assert torch.equal(together[:, 0], noise[:, 0])
    assert torch.equal(together[:, 2:], solve(early[:4])), "a latent's first step is its own, whenever it begins"


def test_unknown_solvers_are_refused():
    with pytest.raises(ValueError, match=r"unknown solver 'heun'; choose one of \['ab2', 'euler'\]"):
        denoise(gaussian_velocity, gaussian_noise(9), make_schedule("pyramid", **SETTINGS), solver="heun")
