"""What weights are kept in."""

import pytest
import torch

from scenetok_core.weights.loading import default_dtype

LARGE = {"weight": torch.empty(20_000, 10_000, device="meta")}
SMALL = {"weight": torch.empty(200, 100)}


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16"])
def test_a_processor_with_units_for_bfloat16_uses_them_for_large_networks(monkeypatch, unit):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True}, raising=False)
    assert default_dtype("cpu", LARGE) == torch.bfloat16
    assert default_dtype("cpu", SMALL) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: False, "avx2": True})
    assert default_dtype("cpu", LARGE) == torch.float32


def test_a_torch_that_does_not_tell_keeps_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert default_dtype("cpu", LARGE) == torch.float32


def test_other_devices_use_bfloat16():
    assert default_dtype("cuda", SMALL) == torch.bfloat16
