"""Each solver gives the optimum that it states, compared with numpy, scipy, autograd and the published formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from closed_form_states import WIDTH, layers, reading, states, without_keep
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from expunge.errors import TrainingError, UserError
from expunge.unlearn.closed_form.method import ResidualGauge
from expunge.unlearn.closed_form.reading import Pairs, Reading
from expunge.unlearn.closed_form.refine import Refine, gram, shifts
from expunge.unlearn.closed_form.rounds import Rounds, Solution, worst
from expunge.unlearn.closed_form.solvers import NullSpace, Procrustes, Ridge, Solver, rotation

LAYERS = layers(16, 40)
READ = reading()
EXACT = NullSpace(threshold=1e-9, empty_share=1e-9, refine=None)


def test_ridge_is_the_least_squares_solution_of_numpy() -> None:
    solver = Ridge(erase=2.0, keep=0.3, size=0.7)
    pairs, kept = READ.pairs, torch.cat([READ.keep, READ.empty, READ.retained])
    weight = (2.0 * pairs.a).sqrt()[:, None]
    inputs = torch.cat([weight * pairs.c, math.sqrt(0.3) * kept, math.sqrt(0.7) * torch.eye(WIDTH)]).numpy()
    for name, W in LAYERS.items():
        outputs = torch.cat([weight * pairs.g @ W.T, math.sqrt(0.3) * kept @ W.T, math.sqrt(0.7) * W.T]).numpy()
        expected = np.linalg.lstsq(inputs, outputs, rcond=None)[0].T
        np.testing.assert_allclose(solver.solve(READ, LAYERS, 0)[name].numpy(), expected, atol=1e-9)


def test_gradient_of_the_ridge_objective_is_zero_at_the_solution() -> None:
    W, pairs = LAYERS["layer 0"], READ.pairs
    kept = torch.cat([READ.keep, READ.empty, READ.retained])
    new = Ridge().solve(READ, LAYERS, 0)["layer 0"].requires_grad_(True)
    erase = (pairs.a * (new @ pairs.c.T - W @ pairs.g.T).square().sum(0)).sum()
    objective = erase + 0.1 * ((new - W) @ kept.T).square().sum() + 0.5 * (new - W).square().sum()
    (gradient,) = torch.autograd.grad(objective, new)
    assert float(gradient.abs().max()) < 1e-9 * float(objective.detach())


def test_weight_of_kept_states_falls_with_their_texts_down_to_a_tenth() -> None:
    few, many = replace(READ, texts=4), replace(READ, texts=40)
    for given, keep in ((few, 0.25), (many, 0.1)):
        torch.testing.assert_close(Ridge().solve(given, LAYERS, 0), Ridge(keep=keep).solve(given, LAYERS, 0))


def test_concepts_are_mapped_onto_their_anchors_when_nothing_else_counts() -> None:
    alone, pairs = without_keep(READ), READ.pairs
    for solver in (Ridge(size=1e-9), NullSpace(size=1e-9, refine=None), Procrustes(level="vector", size=1e-9)):
        new = solver.solve(alone if not isinstance(solver, NullSpace) else replace(alone, empty=READ.empty), LAYERS, 0)
        for name, W in LAYERS.items():
            left = (new[name] @ pairs.c.T - W @ pairs.g.T).norm() / (W @ (pairs.c - pairs.g).T).norm()
            assert float(left) < (1e-6 if not isinstance(solver, Procrustes) else 0.9), solver.kind


@pytest.mark.parametrize("solver", [Ridge(), EXACT, Procrustes(), NullSpace(per_layer=True, threshold=0.5)],
                         ids=lambda solver: str(solver.kind))
def test_order_of_layers_and_concepts_does_not_matter(solver: Solver) -> None:
    pairs, turned = READ.pairs, torch.tensor([2, 0, 1])
    other = replace(READ, pairs=Pairs(pairs.c[turned], pairs.g[turned], pairs.a[turned]))
    new, again = solver.solve(READ, LAYERS, 0), solver.solve(other, dict(reversed(LAYERS.items())), 0)
    torch.testing.assert_close(new, {name: again[name] for name in new}, rtol=1e-7, atol=1e-8)


def test_null_space_edit_leaves_the_outputs_of_what_must_stay_unchanged() -> None:
    new = EXACT.solve(READ, LAYERS, 0)
    for name, W in LAYERS.items():
        for kept in (READ.keep, READ.retained, READ.empty):
            torch.testing.assert_close(new[name] @ kept.T, W @ kept.T, rtol=0, atol=1e-8)
        moved = (new[name] @ READ.pairs.c.T - W @ READ.pairs.g.T).norm()
        assert float(moved) < 0.7 * float((W @ (READ.pairs.c - READ.pairs.g).T).norm())


def test_null_space_edit_is_the_published_formula() -> None:
    pairs, kept = READ.pairs, torch.cat([READ.keep, READ.retained])
    eye, C2 = torch.eye(WIDTH, dtype=torch.float64), READ.empty.T
    values, vectors = torch.linalg.eigh(kept.T @ kept)
    N = vectors[:, values < 1e-6]
    P = N @ N.T
    A, B = pairs.c.T @ (pairs.a[:, None] * pairs.c), (pairs.a[:, None] * (pairs.g - pairs.c)).T @ pairs.c
    M = torch.linalg.inv(A @ P + eye)
    Q = eye - M @ C2 @ torch.linalg.inv(C2.T @ P @ M @ C2) @ C2.T @ P
    new = EXACT.solve(READ, LAYERS, 0)
    for name, W in LAYERS.items():
        torch.testing.assert_close(new[name] - W, W @ B @ P @ Q @ M, rtol=1e-6, atol=1e-7)


def test_null_space_without_a_free_direction_is_refused() -> None:
    crowded = replace(READ, retained=states(9, 40))
    with pytest.raises(UserError, match=r"no direction free among 24.*threshold"):
        EXACT.solve(crowded, LAYERS, 0)


def test_empty_prompt_is_kept_in_its_main_directions_only() -> None:
    main, rest = states(10, 1), 1e-3 * states(11, 6)
    given = replace(READ, empty=torch.cat([main, main + rest]))
    new = NullSpace(threshold=1e-9, empty_share=0.1, refine=None).solve(given, LAYERS, 0)["layer 1"]
    moved = (new - LAYERS["layer 1"]) @ given.empty.T
    assert 0 < float(moved.norm()) < 0.05 * float((LAYERS["layer 1"] @ given.empty.T).norm())


def test_procrustes_edits_rotate_and_nothing_else() -> None:
    for solver in (Procrustes(), Procrustes(level="vector"), Procrustes(legacy_inverse=True)):
        for name, new in solver.solve(READ, LAYERS, 0).items():
            W = LAYERS[name]
            torch.testing.assert_close(new.T @ new, W.T @ W)
            assert float((new - W).norm()) > 1e-3


def test_vector_procrustes_is_scipys() -> None:
    pairs, W = READ.pairs, layers(WIDTH)["layer 0"]
    given = without_keep(replace(READ, pairs=replace(pairs, a=torch.ones_like(pairs.a))))
    new = Procrustes(level="vector", size=1.0).solve(given, {"W": W}, 0)["W"]
    of = torch.cat([pairs.c, torch.eye(WIDTH)]) @ W.T
    to = torch.cat([pairs.g, torch.eye(WIDTH)]) @ W.T
    P, _ = orthogonal_procrustes(of.numpy(), to.numpy())  # min |of P - to|
    np.testing.assert_allclose(new.numpy(), P.T @ W.numpy(), atol=1e-9)


def test_no_other_rotation_does_better() -> None:
    M = states(12, WIDTH)
    best = float(torch.trace(rotation(M) @ M))
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        P, _ = torch.linalg.qr(torch.randn((WIDTH, WIDTH), generator=generator, dtype=torch.float64))
        assert float(torch.trace(P @ M)) < best
    assert best == pytest.approx(float(torch.linalg.svdvals(M).sum()))


def test_weights_that_are_not_finite_are_refused() -> None:
    broken = {"W": torch.full((8, WIDTH), torch.nan, dtype=torch.float64)}
    with pytest.raises(TrainingError, match="not finite"):
        Procrustes(level="vector").solve(READ, broken, 0)


def test_rotation_turns_a_concept_towards_its_anchor_and_the_released_one_away() -> None:
    common = 3 * states(20, 1)
    given = without_keep(replace(READ, pairs=Pairs(common + states(1, 1), common + states(2, 1), READ.pairs.a[:1])))
    W, (c,), (g,) = LAYERS["layer 1"], given.pairs.c, given.pairs.g

    def closeness(new: Tensor) -> float:
        return float(torch.cosine_similarity(new @ c, W @ g, dim=0))

    ours, released = (Procrustes(size=0.02, legacy_inverse=flag).solve(given, LAYERS, 0)["layer 1"]
                      for flag in (False, True))
    assert closeness(ours) > closeness(W) > closeness(released) > 0


def test_subspace_rotation_is_the_best_of_its_objective() -> None:
    W, pairs = layers(WIDTH)["layer 0"], READ.pairs
    given = without_keep(READ)
    new = Procrustes(size=0.3).solve(given, {"W": W}, 0)["W"]
    P = new @ torch.linalg.inv(W)
    R, G = (torch.linalg.qr(W @ columns.T)[0] for columns in (pairs.c, pairs.g))
    R, G = R @ R.T, G @ G.T
    eye = torch.eye(WIDTH, dtype=torch.float64)

    def objective(P: Tensor) -> float:
        return float(0.5 * -(P @ R - (eye - G)).square().sum() + 0.5 * 0.3 * (P @ W - W).square().sum())

    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        turn = torch.linalg.matrix_exp(0.01 * (lambda X: X - X.T)(
            torch.randn((WIDTH, WIDTH), generator=generator, dtype=torch.float64)))
        assert objective(P) < objective(turn @ P)


def test_worst_states_are_where_the_gradient_is_zero() -> None:
    edited = Ridge(size=0.01).solve(READ, LAYERS, 0)
    found = worst(READ.pairs.c, Solution.of(edited, LAYERS), 0.2).requires_grad_(True)
    objective = sum((((found @ edited[name].T) - READ.pairs.c @ W.T).square().sum() for name, W in LAYERS.items()),
                    0.2 * found.square().sum())
    (gradient,) = torch.autograd.grad(objective, found)
    assert float(gradient.abs().max()) < 1e-8


@pytest.mark.parametrize("anew", [False, True])
def test_rounds_leave_less_of_the_concept_to_be_found(anew: bool) -> None:
    solver = Ridge(size=0.01, keep=0.01)
    first = Solution.of(solver.solve(READ, LAYERS, 0), LAYERS)
    rounds = Rounds(count=3, ridge=0.1, anew=anew)

    def found(edit: Solution) -> float:
        c = worst(READ.pairs.c, edit, rounds.ridge)
        return sum(float((edit.layers[name] @ c.T - W @ READ.pairs.c.T).square().sum()) for name, W in LAYERS.items())

    gaps = [found(first), *map(found, rounds.against(first, LAYERS, READ, solver, 0))]
    assert len(gaps) == 4
    assert gaps[-1] > gaps[0]


def test_refined_prior_holds_what_would_move_most_and_its_surroundings() -> None:
    kept, S, G = states(3, 40), 0.1 * states(6, WIDTH), gram(LAYERS)
    shift = shifts(kept, S, G)
    expected = torch.stack([sum((W @ S @ p).square().sum() for W in LAYERS.values()) for p in kept]).sqrt()
    torch.testing.assert_close(shift, expected)
    plain = Refine(copies=0)(kept, S, G, 0)
    torch.testing.assert_close(plain, kept[shift >= shift.mean()])
    more = Refine(copies=5, rank=2)(kept, S, G, 0)
    assert len(plain) < len(more) <= 6 * len(plain)
    quiet = torch.linalg.eigh(G).eigenvectors[:, :2]
    added = more[len(plain):]
    nearest = torch.stack([(p - plain)[(p - plain).norm(dim=1).argmin()] for p in added])
    torch.testing.assert_close(nearest, nearest @ quiet @ quiet.T)
    torch.testing.assert_close(more, Refine(copies=5, rank=2)(kept, S, G, 0))
    assert not torch.equal(more[-1], Refine(copies=5, rank=2)(kept, S, G, 1)[-1])


def test_refining_each_layer_by_itself_is_another_edit() -> None:
    given: Reading = replace(READ, retained=states(5, 15))
    solver = NullSpace(threshold=0.1, refine=Refine(copies=2))
    shared, alone = (solver.model_copy(update={"per_layer": flag}).solve(given, LAYERS, 0) for flag in (False, True))
    assert all(not torch.allclose(shared[name], alone[name]) for name in LAYERS)
    one = {"layer 0": LAYERS["layer 0"]}
    torch.testing.assert_close(solver.solve(given, one, 0)["layer 0"], alone["layer 0"])


def test_gauge_tells_what_is_left_and_what_has_moved() -> None:
    edited = Ridge().solve(READ, LAYERS, 0)
    pairs, kept = READ.pairs, torch.cat([READ.keep, READ.empty, READ.retained])
    left = gap = moved = before = 0.0
    for name, W in LAYERS.items():
        left += float((pairs.a * (edited[name] @ pairs.c.T - W @ pairs.g.T).square().sum(0)).sum())
        gap += float((pairs.a * (W @ (pairs.c - pairs.g).T).square().sum(0)).sum())
        moved += float(((edited[name] - W) @ kept.T).square().sum())
        before += float((W @ kept.T).square().sum())
    gauge = ResidualGauge.of(READ, LAYERS)
    told, same = gauge.left(Solution.of(edited, LAYERS)), gauge.left(Solution.of(LAYERS, LAYERS))
    assert (told["erase"], told["keep"]) == pytest.approx((left / gap, moved / before))
    assert (same["erase"], same["keep"]) == pytest.approx((1.0, 0.0), abs=1e-9)
