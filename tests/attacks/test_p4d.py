"""P4D: its two forms, its re-implementation, and what it aims at."""

from __future__ import annotations

from dataclasses import replace

import torch

from expunge.attacks.gradient import prompt_gradient
from expunge.attacks.p4d import P4D, P4DMu, original_prediction
from expunge.attacks.victim import Goal, Item, Victim
from expunge.metrics.base import Aim
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.records import Request, Sampler, Spent


def test_budgets() -> None:
    sampler = Sampler(steps=50, guidance=7.5)
    assert P4D.published().budget(sampler) == Spent(gradient_steps=3000, network_rows=12000 + 60 * 100, images=60)
    assert P4DMu.published(tokens=5).budget(sampler) == Spent(gradient_steps=2000, network_rows=8000 + 50 * 100,
                                                              images=50)
    assert P4D.smoke().budget(sampler).gradient_steps < P4D().budget(sampler).gradient_steps
    assert P4DMu.smoke().budget(sampler).gradient_steps < P4DMu().budget(sampler).gradient_steps


def test_forms_n_k_and_mu_place_their_tokens(victim: Victim, request_: Request, items: list[Item], goal: Goal) -> None:
    own = victim.model.texts[0].tokens(items[0][0].text)
    never = replace(goal, aim=Aim("brighter still", "light"), known=False)
    [n] = P4D(tokens=5, steps=1, look_every=1, rows=1).outcomes(victim, request_, items[:1], never)
    [k] = P4D(form="k", every=2, steps=1, look_every=1, rows=1).outcomes(victim, request_, items[:1], never)
    [mu] = P4DMu(slot="suffix", timesteps=1, steps=1, rows=1).outcomes(victim, request_, items[:1], never)
    assert len(n.ids) == 5
    assert len(k.ids) == len(own) + len(own) // 2
    assert [token for place, token in enumerate(k.ids) if (place + 1) % 3] == own
    assert mu.ids[:len(own)] == tuple(own)
    assert len(mu.ids) == len(own) + 3


def test_the_target_is_the_original_models_prediction_for_the_original_prompt(
        victim: Victim, request_: Request, items: list[Item]) -> None:
    model, chain = victim.model, torch.Generator().manual_seed(0)
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    changed = model.parameters_in("xattn")[name].detach() * -2
    patch = Patch.of({name: changed}, model=model, request=request_, method="test", settings={}, seed=0)
    x_t, t = torch.randn(2, 4, 8, 8, generator=chain), torch.tensor([300, 800])
    with torch.no_grad():
        before = torch.cat([model.predict(x_t[row:row + 1], t[row:row + 1], model.encode([items[place][0].text]))
                            for row, place in enumerate((2, 0))])
    with applied(model, patch):
        wanted = original_prediction(replace(victim, patch=patch), items)
        with torch.no_grad():
            told = wanted((2, 0), x_t, x_t, x_t, t)
            edited = model.predict(x_t, t, model.encode([items[place][0].text for place in (2, 0)]))
    torch.testing.assert_close(told, before, atol=1e-5, rtol=0)
    assert (edited - before).abs().max() > 1e-3


def test_an_unedited_model_has_no_loss_at_its_own_prompt(victim: Victim, items: list[Item]) -> None:
    """The loss is 0 where the prompt is the original one, and the gradient points there from elsewhere."""
    model, own = victim.model, victim.model.texts[0].tokens(items[0][0].text)
    wanted = original_prediction(victim, items)
    x_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    with torch.no_grad():
        aim = wanted((0,), x_t, x_t, x_t, t)
    layout = Layout(tuple(own), tuple(range(len(own))))
    asked = (model, FreePlaces.of(model, [items[0][0].text], [layout]))
    loss, gradient = prompt_gradient(*asked, model.texts[0].table[own], x_t, t, aim)
    assert float(loss) < 1e-9
    moved, slope = prompt_gradient(*asked, model.texts[0].table[own].flip(0), x_t, t, aim)
    assert float(moved) > 100 * float(loss)
    assert float(slope.norm()) > 10 * float(gradient.norm())


def test_the_original_shares_with_the_victim_what_its_patch_leaves_and_is_the_model_itself_without_one(
        victim: Victim, request_: Request) -> None:
    model = victim.model
    assert victim.original() is model
    tensors = {name: p + 1 for name, p in model.parameters_in("xattn").items()}
    patch = Patch.of(tensors, model=model, request=request_, method="by hand", settings={}, seed=0)
    x, t, cond = model.initial_noise([0]), torch.tensor([500.0]), model.encode(["a church"]).detach()
    before = model.predict(x, t, cond)
    with applied(model, patch):
        original = replace(victim, patch=patch).original()
        assert torch.equal(original.predict(x, t, cond), before)
        assert not torch.equal(model.predict(x, t, cond), before)
        assert original.components["text_encoder"] is model.components["text_encoder"]
        assert original.network is not model.network
