"""A plain update is the sum of its losses' gradients, clipped, through the optimizer."""

from __future__ import annotations

import torch
from stepping import NO_MODEL, stepped
from torch.nn import Parameter

from expunge.unlearn.objective import Term
from expunge.unlearn.update import Plain


def test_step_adds_both_gradients_and_reports_both_losses() -> None:
    w = Parameter(torch.tensor([1.0, 2.0]))
    losses = stepped(Plain(), lambda: w[0] ** 2, lambda: 3 * w[1], {"w": w}, torch.optim.SGD([w], lr=0.1))
    assert losses == {"erase": 1.0, "keep": 6.0}
    torch.testing.assert_close(w.detach(), torch.tensor([1.0 - 0.1 * 2.0, 2.0 - 0.1 * 3.0]))


def test_clip_bounds_the_whole_gradient() -> None:
    w, b = Parameter(torch.tensor([3.0])), Parameter(torch.tensor([4.0]))
    stepped(Plain(max_grad_norm=1.0), lambda: (w ** 2 + b ** 2).sum() / 2, None, {"w": w, "b": b},
                         torch.optim.SGD([w, b], lr=1.0))
    torch.testing.assert_close(torch.cat([w, b]).detach(), torch.tensor([3.0 - 0.6, 4.0 - 0.8]))


def test_gradients_do_not_pile_up_over_steps() -> None:
    w = Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([w], lr=0.5)
    for _ in range(2):
        stepped(Plain(), lambda: w.sum(), None, {"w": w}, optimizer)
    assert w.item() == 0.0


def test_plain_prepares_itself_and_keeps_no_state() -> None:
    plain = Plain()
    assert plain.prepare({}, Term(lambda number: torch.zeros(())), NO_MODEL) is plain
    assert plain.state == {}
