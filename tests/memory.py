"""The memory that tensors take, counted from the tensors themselves: on any device, also the one without storage."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Most bytes that tensors made within this context took at once.

    Not counted: `modules`' weights, views, and what an operation takes only while it runs.
    """

    def __init__(self, *modules):
        super().__init__()
        self.bytes = self._now = 0
        self._weights = {key(tensor) for m in modules for tensor in (*m.parameters(), *m.buffers())}
        self._live = {}

    @property
    def held(self):
        """Bytes of those tensors that are still alive."""
        return self._now

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor)
        self.bytes = max(self.bytes, self._now)
        return out

    def _count(self, tensor):
        number, storage = key(tensor), tensor.untyped_storage()
        if number in self._weights or number in self._live:
            return
        self._live[number] = (weakref.ref(storage, lambda _: self._forget(number)), storage.nbytes())
        self._now += storage.nbytes()

    def _forget(self, number):
        self._now -= self._live.pop(number)[1]


def key(tensor):
    return tensor.untyped_storage()._cdata
