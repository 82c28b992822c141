"""Losses over all pairs, a block of rows at a time: memory grows with the batch, not its square."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["by_blocks", "refuse_second_gradient"]

# Entries of a block: on the CPU few enough that its memory is used again for the next, which is
# faster than one large matrix; a GPU needs more of them to be busy.
_ENTRIES = {"cpu": 2**22}
_ENTRIES_ELSEWHERE = 2**24
# Fewer rows would spend their time on reading all columns. So many make a block as large as what
# its columns are computed from, where that is of this width.
_FEWEST_ROWS = 32


def by_blocks(
    part: Callable[..., torch.Tensor],
    by_row: Sequence[torch.Tensor],
    whole: Sequence[torch.Tensor],
    n_columns: int,
) -> torch.Tensor:
    """Sum a loss over blocks of the rows of a matrix that is too large to be made at once.

    Small matrices are one block, an ordinary part of the graph. Otherwise the gradient of a block
    is taken with its loss, before the next one is made, so that one block is in memory at a time.
    The result can then be differentiated once, not twice (which is an error), and by the tensors
    given here only.

    Parameters
    ----------
    part : callable
        ``part(block, *tensors)`` returns what some rows add to the loss, a scalar: `block` is the
        slice of the rows, the tensors are those rows of `by_row` and all of `whole`.
    by_row : sequence of Tensors of shape (n, ...)
        Inputs of which each row of the matrix uses its own.
    whole : sequence of Tensors
        Inputs that all rows share.
    n_columns : int
        Entries of a row of the matrix.

    Returns
    -------
    Tensor
        Scalar.
    """
    n, device = len(by_row[0]), by_row[0].device
    size = max(_FEWEST_ROWS, _ENTRIES.get(device.type, _ENTRIES_ELSEWHERE) // n_columns)
    if n <= size:
        return part(slice(0, n), *by_row, *whole)
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    tensors = (*by_row, *whole)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _Blocks.apply(part, blocks, len(by_row), *tensors)
    return torch.stack([part(b, *(t[b] for t in by_row), *whole) for b in blocks]).sum()


class _Blocks(torch.autograd.Function):
    """The sum over `blocks`, whose gradient is ready when it is returned."""

    @staticmethod
    def forward(ctx, part, blocks: list[slice], n_by_row: int, *tensors: torch.Tensor):
        needed = ctx.needs_input_grad[3:]
        moving = [i for i, need in enumerate(needed) if need]
        shared = [t.detach().requires_grad_(need) for t, need in zip(tensors, needed, strict=True)]
        gradients = {i: torch.zeros_like(shared[i]) for i in moving}
        total = tensors[0].new_zeros(())
        for block in blocks:
            inputs = [
                t.detach()[block].requires_grad_(t.requires_grad) if i < n_by_row else t
                for i, t in enumerate(shared)
            ]
            with torch.enable_grad():
                loss = part(block, *inputs)
            # The block's graph is freed here, before the next one is made.
            found = torch.autograd.grad(loss, [inputs[i] for i in moving])
            for i, gradient in zip(moving, found, strict=True):
                (gradients[i][block] if i < n_by_row else gradients[i]).add_(gradient)
            total += loss.detach()
        ctx.save_for_backward(*(gradients.get(i) for i in range(len(shared))))
        return total

    @staticmethod
    def backward(ctx, of_loss: torch.Tensor):
        refuse_second_gradient()
        scaled = (None if g is None else g * of_loss for g in ctx.saved_tensors)
        return None, None, None, *scaled


def refuse_second_gradient() -> None:
    """Refuse a backward pass that is to be differentiated: this gradient is written as a constant.

    Torch's own ``once_differentiable`` does not refuse it where nothing follows the loss.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "The gradient of this loss over all pairs cannot be differentiated again: "
            "'create_graph' must be False. Got True instead."
        )
