"""Choosing tokens of a scene."""

import pytest
import torch

from scenetok_core.subsets import (
    first_tokens,
    keep_tokens,
    listed_tokens,
    painted_tokens,
    parse_counts,
    random_tokens,
    sweep,
)
from scenetok_core.types import SceneTokens
from tests import small

TOKENS, DIM = 24, 4


@pytest.fixture
def scene():
    tokens = torch.randn(TOKENS, DIM, generator=torch.Generator().manual_seed(0))
    return SceneTokens(tokens, torch.eye(4), 1.0, small.views(2).cameras, "small", "0" * 16)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(chosen):
    return chosen.nonzero().flatten().tolist()


def test_the_first_tokens_in_use_are_chosen(scene):
    assert numbers(first_tokens(scene, 3)) == [0, 1, 2]
    fewer = keep_tokens(scene, listed_tokens(scene, "4-9"))
    assert numbers(first_tokens(fewer, 3)) == [4, 5, 6]


def test_random_choices_follow_the_seed_and_lie_in_each_other(scene):
    small_set, large_set, other = (
        set(numbers(random_tokens(scene, n, generator(s)))) for n, s in ((5, 0), (9, 0), (5, 1))
    )
    assert small_set < large_set and len(small_set) == 5 and len(large_set) == 9
    assert small_set != other
    fewer = keep_tokens(scene, listed_tokens(scene, "4-9"))
    assert set(numbers(random_tokens(fewer, 5, generator()))) < set(range(4, 10))


def test_only_the_chosen_tokens_are_left_and_stay_so(scene):
    fewer = keep_tokens(scene, listed_tokens(scene, "4-9"))
    assert torch.equal(fewer.active, scene.tokens[4:10])
    assert torch.equal(keep_tokens(fewer, listed_tokens(fewer, "0-5")).active, scene.tokens[4:6])
    assert keep_tokens(scene, torch.ones(TOKENS, dtype=torch.bool)).mask is None
    assert scene.mask is None, "the scene given is as before"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-2, 7", [0, 1, 2, 7]),
        ("22-", [22, 23]),
        ("-1", [0, 1]),
        (" 3 - 4 ,3", [3, 4]),
        ("23", [23]),
    ],
)
def test_lists_are_read(scene, text, expected):
    assert numbers(listed_tokens(scene, text)) == expected


@pytest.mark.parametrize("text", ["a", "1-b", "5-3", "24", "20-24", "-", "1.5", "1--3"])
def test_other_lists_are_refused(scene, text):
    with pytest.raises(ValueError, match="tokens"):
        listed_tokens(scene, text)


def test_tokens_lie_in_rows_under_a_picture(scene):
    picture = torch.zeros(40, 60)  # 24 tokens: 4 rows of 6
    picture[:10, 10:20] = 1
    picture[30:] = 0.6
    assert numbers(painted_tokens(scene, picture)) == [1, *range(18, 24)]


def test_a_scene_without_tokens_is_refused(scene):
    with pytest.raises(ValueError, match="at least one"):
        keep_tokens(scene, torch.zeros(TOKENS, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"shape \[24\], got \[3\]"):
        keep_tokens(scene, torch.ones(3, dtype=torch.bool))
    for count in (0, TOKENS + 1):
        with pytest.raises(ValueError, match=f"24 tokens in use.*got {count}"):
            first_tokens(scene, count)


def test_counts_are_numbers_or_shares():
    assert parse_counts("1, 25%, 100%,8", TOKENS) == [1, 6, 24, 8]


@pytest.mark.parametrize("text", ["", "0", "25", "x", "1.5", "110%", "1%", "nan", "inf"])
def test_other_counts_are_refused(text):
    with pytest.raises(ValueError, match="tokens"):
        parse_counts(text, TOKENS)


@pytest.mark.parametrize("seed", [None, 3])
def test_a_sweep_makes_nested_scenes(scene, seed):
    scenes = sweep(scene, [2, 24, 7], seed)
    assert [len(part.active) for part in scenes] == [2, 24, 7]
    assert scenes[1].mask is None
    assert set(numbers(scenes[0].mask)) < set(numbers(scenes[2].mask))
    assert (numbers(scenes[2].mask) == list(range(7))) == (seed is None)
