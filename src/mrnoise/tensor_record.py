"""Frozen dataclasses that hold tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor


class TensorRecord:
    """What all tensors of a frozen dataclass have in common: they move, are joined and taken apart together.

    Fields that are records themselves go along. A field that is ``None`` in one of several records is ``None`` in all
    of them together. A new field costs no edit here.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same with a function applied to every tensor."""
        changed: dict[str, Any] = {}
        for name, value in self._fields().items():
            if isinstance(value, Tensor):
                changed[name] = function(value)
            elif isinstance(value, TensorRecord):
                changed[name] = value.map(function)
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return self.map(lambda tensor: tensor.to(device))

    def cpu(self) -> Self:
        """The same in host memory."""
        return self.to("cpu")

    @classmethod
    def stack(cls, records: Sequence[Self], shape: Sequence[int]) -> Self:
        """Records of the same kind joined along new leading axes; what is no tensor is that of the first."""
        first = records[0]
        changed: dict[str, Any] = {}
        for name, value in first._fields().items():
            parts = [getattr(record, name) for record in records]
            if any(part is None for part in parts):
                changed[name] = None
            elif isinstance(value, Tensor):
                changed[name] = torch.stack(parts).reshape(*shape, *value.shape)
            elif isinstance(value, TensorRecord):
                changed[name] = type(value).stack(parts, shape)
        return dataclasses.replace(first, **changed)  # type: ignore[type-var]

    def unstack(self, count: int, ndim: int) -> list[Self]:
        """The ``count`` records that `stack` joined along ``ndim`` axes."""
        return [self.map(lambda tensor, i=i: tensor.flatten(0, ndim - 1)[i]) for i in range(count)]  # type: ignore[misc]

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
