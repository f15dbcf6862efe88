"""Depth heads: what pictures of depth mean, heads on a model they do not touch, checkpoints that say whose they are."""

import math

import pytest
import torch

from scenetok_core import DepthHead, SceneTok
from scenetok_core.depth import colour_depth, depth_pictures, read_depth
from scenetok_core.models.depth import DepthNetworks, SizeToken
from scenetok_core.nn.attention import attend, use_attention
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import load_checkpoint, read_tensors, save_checkpoint
from scenetok_core.weights.convert import convert_checkpoint
from tests import small

SCALE = 0.7
VIEWS, FRAMES, SIDE = 4, 3, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("depth")


@pytest.fixture(scope="module")
def model(folder):
    return SceneTok.load(small.checkpoint(folder))


@pytest.fixture(scope="module")
def scene(model):
    return model.encode(small.views(VIEWS))


@pytest.fixture(scope="module")
def head(folder, model):
    return DepthHead.load(small.depth_head(folder / "head.safetensors", model), model)


def ramp(low, high):
    """Depth [1, 1, SIDE, SIDE] from `low` to `high`."""
    return torch.linspace(low, high, SIDE**2).view(1, 1, SIDE, SIDE)


@pytest.mark.parametrize("mapping", ["inverse", "log"])
def test_depth_comes_back_in_input_units(mapping):
    config = small.depth_config(mapping=mapping)
    depth = ramp(config.near / SCALE, config.far / SCALE)
    pictures = depth_pictures(depth, torch.tensor([SCALE]), config)
    assert pictures.shape == (1, 1, 3, SIDE, SIDE) and pictures.min() >= 0 and pictures.max() <= 1
    torch.testing.assert_close(read_depth(pictures[0], SCALE, config), depth[0, :, None], rtol=2e-5, atol=0)


def test_brightness_is_as_documented():
    depth, scale = torch.tensor([0.5, 1.0, 2.0, 8.0]).view(1, 1, 2, 2), torch.tensor([1.0])
    shown = {m: depth_pictures(depth, scale, small.depth_config(mapping=m))[0, 0] for m in ("inverse", "log")}
    assert shown["inverse"][0].flatten().tolist() == pytest.approx([1, 7 / 15, 3 / 15, 0], abs=1e-6)
    assert shown["log"][0].flatten().tolist() == pytest.approx([1, 3 / 4, 2 / 4, 0], abs=1e-6)
    assert torch.equal(shown["log"][0], shown["log"][2])


def test_depth_beyond_the_ends_and_unknown_depth_are_shown_at_the_ends():
    config = small.depth_config()
    depth = torch.tensor([0.01, 100.0, math.inf, 0.0]).view(1, 1, 2, 2)
    assert depth_pictures(depth, torch.tensor([1.0]), config)[0, 0, 0].flatten().tolist() == [1, 0, 0, 0]
    assert depth_pictures(depth * math.nan, torch.tensor([1.0]), config).isfinite().all()


@pytest.mark.parametrize("mapping", ["inverse", "log"])
def test_relative_pictures_know_neither_factor_nor_offset(mapping):
    config, scale = small.depth_config(units="relative", mapping=mapping), torch.tensor([1.0])
    inverse = torch.rand(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) + 0.1
    first, again = (depth_pictures(1 / values, scale, config) for values in (inverse, 5 * inverse + 3))
    torch.testing.assert_close(first, again, atol=1e-4, rtol=0)
    assert first.min() == 0 and first.max() == 1
    back = 1 / read_depth(first[0], 1.0, config)[:, 0]
    low, high = inverse.flatten().quantile(0.05), inverse.flatten().quantile(0.95)
    inside = ((inverse > low) & (inverse < high))[0]
    correlation = torch.corrcoef(torch.stack([back[inside], inverse[0][inside]]))[0, 1]
    assert correlation == pytest.approx(1, abs=1e-4), "the inverse is right up to an affine map"


def test_relative_pictures_ignore_unknown_depth():
    config, scale = small.depth_config(units="relative"), torch.tensor([1.0])
    depth = ramp(1, 4)
    holes = torch.cat([depth, torch.zeros_like(depth)], 1)
    torch.testing.assert_close(
        depth_pictures(holes, scale, config)[:, :1], depth_pictures(depth, scale, config), atol=1e-5, rtol=0
    )
    assert not depth_pictures(torch.zeros_like(depth), scale, config).any()


def test_a_head_with_a_size_token_knows_metres_and_no_other_unit(folder, model):
    """With metres the same tokens mean other depth; other units stay without meaning."""
    head = DepthHead.load(small.depth_head(folder / "sized.safetensors", model, size_token=True), model)
    path, views = small.cameras(FRAMES), small.views(VIEWS)

    def rendered(unit, factor=1.0, head=head):
        def moved(cameras):
            c2w = cameras.c2w.clone()
            c2w[:, :3, 3] *= factor
            return cameras.replace(c2w=c2w, unit=unit)

        return head.render(model.encode(Views(views.rgb, moved(views.cameras))), moved(path)) / factor

    unknown, metres = rendered("relative"), rendered("metric")
    torch.testing.assert_close(rendered("relative", 3.0), unknown, rtol=1e-3, atol=0)
    assert (metres / unknown - 1).abs().max() > 1e-2
    assert (rendered("metric", 3.0) / metres - 1).abs().max() > 1e-2
    plain = DepthHead.load(small.depth_head(folder / "unsized.safetensors", model), model)
    assert torch.equal(rendered("metric", head=plain), rendered("relative", head=plain))


def test_a_size_token_is_even_in_the_logarithm_of_the_size():
    token = SizeToken(small.TOKEN_DIM)
    generator = torch.Generator().manual_seed(0)
    for weight in token.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    unknown, one, two, four = token(torch.tensor([0.0, 1.0, 2.0, 4.0]))[:, 0]
    assert torch.equal(unknown, token.unknown) and torch.equal(one, token.known)
    torch.testing.assert_close(four - two, two - one)
    with pytest.raises(ValueError, match="relative depth knows no size"):
        small.depth_config(units="relative", size_token=True)


def test_dropped_tokens_stay_dropped_beside_the_size_token(folder, model, scene):
    head = DepthHead.load(small.depth_head(folder / "dropping.safetensors", model, size_token=True), model)
    mask = torch.arange(len(scene.tokens)) < len(scene.tokens) // 2
    fewer = scene.replace(tokens=scene.tokens[mask])
    path = small.cameras(FRAMES)
    assert torch.equal(head.render(scene.replace(mask=mask), path), head.render(fewer, path))


@pytest.mark.parametrize("rank", [2, None])
def test_a_fresh_head_is_the_models_decoder(model, rank):
    networks, decoder = DepthNetworks(small.depth_config(rank=rank), model.networks.denoiser), model.networks.denoiser
    generator = torch.Generator().manual_seed(0)
    cells = small.IMAGE // small.PATCH
    noisy = torch.randn(1, FRAMES, 3 * small.PATCH**2, cells, cells, generator=generator)
    tokens = torch.randn(1, small.TOKENS, small.TOKEN_DIM, generator=generator)
    rays = torch.randn(1, FRAMES, 1, 6, 2 * cells, 2 * cells, generator=generator)
    t = torch.full((1, FRAMES), 0.5)
    own = decoder(noisy, t, decoder.embed_rays(rays), decoder.condition(tokens))
    torch.testing.assert_close(networks(tokens, noisy, t, rays), own)
    assert own.abs().max() > 1e-3
    torch.nn.init.zeros_(networks.denoiser.model.final_layer.linear.weight)
    assert not torch.equal(networks(tokens, noisy, t, rays), own), "the output layer is the head's"
    assert torch.equal(decoder(noisy, t, decoder.embed_rays(rays), decoder.condition(tokens)), own), "not the model's"


def test_a_low_rank_head_holds_updates_and_the_output_layer_and_shares_the_rest(model):
    networks = DepthNetworks(small.depth_config(), model.networks.denoiser)
    names = set(networks.state_dict())
    assert {name.rpartition(".")[2] for name in names if "final_layer" not in name} == {"down", "up"}
    assert names == {name for name, _ in networks.named_parameters()}
    decoder, weights = model.networks.denoiser.state_dict(), dict(networks.denoiser.named_buffers())
    shared = [name for name, value in weights.items() if value.data_ptr() == decoder[name].data_ptr()]
    assert shared and len(shared) == len(weights)
    own = {name.removeprefix("denoiser.") for name in names if "final_layer" in name}
    assert set(decoder) - set(weights) == own | {"null_tokens"}
    few = DepthNetworks(small.depth_config(layers=("attn2.to_q",)), model.networks.denoiser)
    assert sum("down" in name for name in few.state_dict()) == model.config.decoder.depth
    with pytest.raises(ValueError, match=r"layers \['nothing'\] are in no name of a linear layer"):
        DepthNetworks(small.depth_config(layers=("nothing",)), model.networks.denoiser)


def test_a_head_attends_as_its_model_does(folder):
    model, calls = SceneTok.load(folder / "small.safetensors"), []
    use_attention(model.networks, lambda *given: calls.append(1) or attend(*given))
    head = DepthHead.load(small.depth_head(folder / "attending.safetensors", model), model)
    scene = model.encode(small.views(VIEWS))
    calls.clear()
    head.render(scene, small.cameras(1), steps=1)
    assert len(calls) == 2 * model.config.decoder.depth


def test_rendering_depth_leaves_the_model_alone(model, scene, head):
    path = small.cameras(FRAMES)
    before = model.render(scene, path, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    depth = head.render(scene, path)
    assert torch.equal(torch.get_rng_state(), state)
    assert depth.shape == (FRAMES, 1, small.IMAGE, small.IMAGE) and depth.dtype == torch.float32
    near, far = (end / scene.scene_scale for end in (head.config.near, head.config.far))
    assert depth.min() >= near * (1 - 1e-5) and depth.max() <= far * (1 + 1e-5) and depth.std() > 0
    assert torch.equal(model.render(scene, path, generator=torch.Generator().manual_seed(1)), before)
    assert not torch.equal(head.render(scene, path, steps=3), depth)


def test_depth_is_in_the_units_of_the_capture(model, head):
    views, path, factor = small.views(VIEWS), small.cameras(FRAMES), 10.0
    depth = head.render(model.encode(views), path)
    large = [cameras.replace(c2w=cameras.c2w.clone()) for cameras in (views.cameras, path)]
    for cameras in large:
        cameras.c2w[:, :3, 3] *= factor
    scaled = head.render(model.encode(type(views)(views.rgb, large[0])), large[1])
    torch.testing.assert_close(scaled, factor * depth, rtol=1e-3, atol=0)


def test_uncertainty_is_the_spread_of_the_samples(scene, head):
    path, samples = small.cameras(FRAMES), 3
    mean, spread = head.render_uncertainty(scene, path, samples, steps=2, seed=5)
    each = torch.stack(
        [head.render(scene, path, steps=2, generator=torch.Generator().manual_seed(5 + i)) for i in range(samples)]
    )
    torch.testing.assert_close(mean, each.mean(0))
    torch.testing.assert_close(spread, each.std(0), atol=1e-4, rtol=1e-3)
    assert spread.max() > 0
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        head.render_uncertainty(scene, path, 1)


@pytest.mark.parametrize("rank", [2, None])
def test_a_saved_head_renders_the_same(folder, model, scene, rank):
    path = small.depth_head(folder / f"rank{rank}.safetensors", model, rank=rank)
    first, second = (DepthHead.load(path, model).render(scene, small.cameras(FRAMES)) for _ in range(2))
    assert torch.equal(first, second)
    state, config, metadata = load_checkpoint(path, type(small.depth_config()))
    assert config == small.depth_config(rank=rank) and metadata["scene_model_hash"] == model.hash
    networks = DepthNetworks(config, model.networks.denoiser)
    networks.load_state_dict(state)
    assert torch.equal(DepthHead.around(networks.eval(), "", model).render(scene, small.cameras(FRAMES)), first)


def test_another_scene_model_is_refused_by_name_and_hash(folder, model, head):
    config = small.config("other")
    save_checkpoint(folder / "other.safetensors", small.state(config, seed=1), config)
    other = SceneTok.load(folder / "other.safetensors")
    with pytest.raises(ValueError, match=rf"for model 'small' \({model.hash}\), not for 'other' \({other.hash}\)"):
        DepthHead.load(folder / "head.safetensors", other)
    with pytest.raises(ValueError, match="made by model 'other'"):
        head.render(other.encode(small.views(VIEWS)), small.cameras(FRAMES))


def test_files_that_are_no_fitting_head_are_refused(folder, model):
    with pytest.raises(ValueError, match=r"small\.safetensors is a SceneTok model, not a depth head"):
        DepthHead.load(folder / "small.safetensors", model)
    with pytest.raises(ValueError, match=r"head\.safetensors is a depth head, not a SceneTok model"):
        small.depth_head(folder / "head.safetensors", model)
        SceneTok.load(folder / "head.safetensors")
    tensors, _ = read_tensors(folder / "head.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_checkpoint(folder / "less.safetensors", tensors, small.depth_config(), {"scene_model_hash": model.hash})
    with pytest.raises(ValueError, match=r"'small-depth' does not fit the decoder of 'small': 1 missing"):
        DepthHead.load(folder / "less.safetensors", model)
    with pytest.raises(ValueError, match="is of the family 'depth', which was never released in another form"):
        convert_checkpoint(folder / "head.safetensors", folder / "out.safetensors")


def test_settings_that_make_no_sense_are_refused():
    for changes, message in (
        ({"near": 9.0}, "near must be less than far, got 9.0 and 8.0"),
        ({"rank": 0}, "rank must be positive, got 0"),
        ({"layers": ()}, "a low-rank update needs layers"),
    ):
        with pytest.raises(ValueError, match=message):
            small.depth_config(**changes)


def test_colours_tell_near_from_far():
    colours = colour_depth(torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 1, 3), (1.0, 4.0))
    assert colours.shape == (1, 3, 1, 3)
    assert (colours.sum(1).flatten().diff() < 0).all()
    assert torch.equal(colours, colour_depth(torch.tensor([0.1, 2.0, 9.0]).view(1, 1, 1, 3), (1.0, 4.0)))
