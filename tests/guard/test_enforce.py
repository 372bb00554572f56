"""Enforcement in other people's loops: what is frozen stays, whatever optimizer, wrapper or LoRA comes along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from guard_examples import publisher, same, weights
from torch import Tensor, nn

from expunge.errors import ModelError, UserError
from expunge.finetune import FineTune, fine_tuning
from expunge.guard import DriftError, guarded, lora_targets, random_mask
from expunge.guard.enforce import unwrapped
from expunge.guard.mask import mask_of
from expunge.models.model import Model
from expunge.models.scope import full_names
from expunge.records.freezing import FreezeMask

TUNE = FineTune(steps=4, batch=2, learning_rate=1e-3)


@pytest.fixture
def mask(model: Model) -> FreezeMask:
    return random_mask(model, 0.5, by="count")


def loss(unet: Any, seed: int = 0) -> Tensor:
    """What a training loop would minimise: mean square of the output on noise."""
    generator = torch.Generator().manual_seed(seed)
    x, states = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 32, generator=generator)
    out: Tensor = unet(x, torch.tensor([10, 500]), states, return_dict=False)[0]
    return out.square().mean()


def moved(model: Model, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in weights(model).items() if not torch.equal(value, before[name])}


def train(unet: Any, optimizer: Any, steps: int = 3) -> None:
    for number in range(steps):
        optimizer.zero_grad(set_to_none=False)
        loss(unet, number).backward()
        optimizer.step()


def test_decay_moves_a_tensor_whose_gradient_is_zero(model: Model, mask: FreezeMask) -> None:
    """Why switching gradients off is not enough: they were on for one step, and zero_grad leaves zeros behind."""
    before, unet = weights(model), model.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.1)
    loss(unet).backward()
    for name in mask.frozen:
        full_names("unet", unet)[name].requires_grad_(False)
    train(unet, optimizer)
    assert moved(model, before) & set(mask.frozen)


def test_guarded_training_moves_the_others_alone(model: Model, mask: FreezeMask) -> None:
    before, unet = weights(model), model.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.1)
    loss(unet).backward()
    optimizer.step()
    with torch.no_grad():  # the state is there now; the weights are as published again
        for name, p in full_names("unet", unet).items():
            p.copy_(before[name])
    with guarded(unet, mask, optimizers=[optimizer]) as guard:
        train(unet, optimizer)
        guard.check()
    assert moved(model, before) == set(mask.trainable)
    held = {id(p) for p in guard.frozen.values()}
    assert not any(id(p) in held for group in optimizer.param_groups for p in group["params"])
    assert not any(id(p) in held for p in optimizer.state)
    assert all(p.requires_grad for p in unet.parameters()), "the switches are not as before"


def test_later_optimizers_can_be_stripped(model: Model, mask: FreezeMask) -> None:
    before, unet = weights(model), model.network.requires_grad_(True)
    with guarded(model, mask) as guard:
        optimizer = torch.optim.SGD([{"params": [p]} for p in unet.parameters()], lr=1e-2, weight_decay=0.1)
        assert guard.strip(optimizer) == len(mask.frozen)
        assert guard.strip(optimizer) == 0
        train(unet, optimizer)
    assert moved(model, before) == set(mask.trainable)


def test_everything_frozen_leaves_the_weights_unchanged(model: Model) -> None:
    before, unet, whole = weights(model), model.network.requires_grad_(True), random_mask(model, 1.0)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-2, weight_decay=0.1)
    with guarded(unet, whole, optimizers=[optimizer]):
        optimizer.step()
        with pytest.raises(RuntimeError, match="does not require grad"):
            loss(unet).backward()
    assert same(weights(model), before)
    assert len(whole.frozen) == len(before)
    with pytest.raises(UserError, match="nothing is left"), fine_tuning(model, publisher(model).innocent[0], TUNE,
                                                                       frozen=whole.frozen):
        pass


def test_nothing_frozen_is_ordinary_training(model: Model) -> None:
    nothing, before = random_mask(model, 0.0), weights(model)
    assert nothing.frozen == ()
    results = []
    for frozen in ((), nothing.frozen):
        with fine_tuning(model, publisher(model).innocent[0], TUNE, frozen=frozen) as tuner:
            list(tuner.train())
            results.append(weights(model))
    assert same(*results)
    model.network.requires_grad_(True)
    for context in (False, True):
        with torch.no_grad():
            for name, p in model.parameters_of("denoiser").items():
                p.copy_(before[name])
        optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-3)
        if context:
            with guarded(model, nothing, optimizers=[optimizer]):
                train(model.network, optimizer)
        else:
            train(model.network, optimizer)
        results.append(weights(model))
    assert same(*results[2:])


def test_drift_is_told_inside_and_on_leaving(model: Model, mask: FreezeMask) -> None:
    def drifting() -> None:
        with guarded(model, mask) as guard:
            with torch.no_grad():
                guard.frozen[mask.frozen[0]].view(-1)[0] += 1e-3
            assert guard.drift() == [mask.frozen[0]]
            with pytest.raises(DriftError):
                guard.check()

    with pytest.raises(DriftError, match="1 frozen tensors moved") as told:
        drifting()
    assert mask.frozen[0] in str(told.value)


def test_gradients_that_are_switched_on_again_are_told(model: Model, mask: FreezeMask) -> None:
    with guarded(model, mask) as guard:
        model.network.requires_grad_(True)
        with pytest.raises(DriftError, match="switched on again"):
            guard.check()
        for p in guard.frozen.values():
            p.requires_grad_(False)


def test_another_error_is_not_hidden(model: Model, mask: FreezeMask) -> None:
    def failing() -> None:
        with guarded(model, mask) as guard, torch.no_grad():
            guard.frozen[mask.frozen[0]].add_(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


def test_weights_other_than_the_published_are_refused_or_held_as_they_are(model: Model, mask: FreezeMask
                                                                          ) -> None:
    model.network.to(torch.bfloat16)
    with pytest.raises(ModelError, match="not as they were published"), guarded(model.network, mask):
        pass
    guard_of_cast = guarded(model.network, mask, check_weights=False)
    guard = guard_of_cast.__enter__()
    guard.check()
    with torch.no_grad():
        guard.frozen[mask.frozen[0]].add_(1)
    with pytest.raises(DriftError):
        guard_of_cast.__exit__(None, None, None)


def test_another_architecture_is_refused(mask: FreezeMask) -> None:
    with pytest.raises(ModelError, match="tensors for a UNet of"), guarded(nn.Linear(2, 2), mask):
        pass
    with pytest.raises(UserError, match="str as the model"), guarded("unet", mask):
        pass


@pytest.fixture
def adapted(model: Model) -> Iterator[Any]:
    """Puts a LoRA on some layers of the UNet, and takes it off at the end."""
    from peft import LoraConfig

    yield lambda layers: model.network.add_adapter(LoraConfig(r=2, target_modules=list(layers)))
    model.network.unload_lora()


def test_a_lora_on_a_frozen_module_is_refused(model: Model, mask: FreezeMask, adapted: Any) -> None:
    layer = next(name for name in mask.frozen if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight")))
    with guarded(model, mask) as guard:
        adapted([layer.removeprefix("unet/").removesuffix(".weight")])
        with pytest.raises(UserError, match="an adapter on 1 frozen modules"):
            guard.check()
        model.network.unload_lora()
    adapted([layer.removeprefix("unet/").removesuffix(".weight")])
    with pytest.raises(UserError, match="lora_targets"), guarded(model, mask):
        pass


@pytest.mark.parametrize("kind", ["FourierFTConfig", "HRAConfig", "LNTuningConfig"])
def test_any_adapter_on_a_frozen_module_is_refused(model: Model, mask: FreezeMask, kind: str) -> None:
    """No list of names would have them all."""
    import peft

    layer = next(name for name in mask.frozen if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight")))
    sizes = {"FourierFTConfig": {"n_frequency": 10}, "HRAConfig": {"r": 2}}.get(kind, {})
    targets = [layer.removeprefix("unet/").removesuffix(".weight")]
    if kind == "LNTuningConfig":
        targets = [next(name for name in mask.frozen if ".norm1.weight" in name or ".norm2.weight" in name
                        ).removeprefix("unet/").removesuffix(".weight")]
    with pytest.raises(UserError, match="an adapter on 1 frozen modules"), guarded(model, mask):
        peft.inject_adapter_in_model(getattr(peft, kind)(target_modules=targets, **sizes), model.network)


def test_an_adapter_on_a_frozen_bias_is_refused(model: Model) -> None:
    import peft

    bias = next(name for name in random_mask(model, 1.0).frozen if name.endswith("to_out.0.bias"))
    held, layer = mask_of(model, [bias], method="test", ratio=0.0), bias.removeprefix("unet/").removesuffix(".bias")
    for on in (False, True):
        with guarded(model, held) as guard:
            config = peft.LoraConfig(r=2, target_modules=[layer], lora_bias=on)
            model.network.add_adapter(config)
            if on:
                with pytest.raises(UserError, match="an adapter on 1 frozen modules"):
                    guard.check()
            else:
                guard.check()
            model.network.unload_lora()


def test_parameters_that_are_exchanged_are_drift(model: Model, mask: FreezeMask) -> None:
    """Whether by assignment, by load_state_dict or by a parametrization; the old ones are as they were."""
    name = next(name for name in mask.frozen if name.endswith("conv1.weight"))
    path, _, leaf = name.removeprefix("unet/").rpartition(".")
    module = model.network.get_submodule(path)

    def exchange() -> None:
        setattr(module, leaf, nn.Parameter(getattr(module, leaf) + 1))

    def reload() -> None:
        state = {key: value + 1 for key, value in model.network.state_dict().items()}
        model.network.load_state_dict(state, assign=True)

    def normalise() -> None:
        torch.nn.utils.parametrizations.weight_norm(module)

    def add() -> None:
        model.network.register_parameter("x", nn.Parameter(torch.ones(1)))

    def inside(change: Any) -> None:
        with guarded(model, mask, check_weights=False) as guard:
            change()
            assert guard.drift()

    for change, says in ((exchange, "1 frozen tensors were replaced"), (reload, "frozen tensors were replaced"),
                         (add, "1 parameters are not the model's"), (normalise, "1 frozen tensors are missing")):
        with pytest.raises(DriftError, match=says):
            inside(change)
        if change is add:
            del model.network._parameters["x"]


def test_mistakes_leave_the_model_as_it_was(model: Model, mask: FreezeMask) -> None:
    unet = model.network.requires_grad_(True)
    for odd in (3, [None], None, [unet]):
        with pytest.raises(UserError, match="as an optimizer"), guarded(unet, mask, optimizers=odd):  # type: ignore
            pass
        assert all(p.requires_grad for p in unet.parameters())

    class Broken:
        """Fails while it is stripped."""

        param_groups, state = ({},), {}

    with pytest.raises(KeyError), guarded(unet, mask, optimizers=Broken()):  # type: ignore[arg-type]
        pass
    assert all(p.requires_grad for p in unet.parameters())


def test_one_optimizer_needs_no_list(model: Model, mask: FreezeMask) -> None:
    before, unet = weights(model), model.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.1)
    with guarded(unet, mask, optimizers=optimizer):
        train(unet, optimizer)
    assert moved(model, before) == set(mask.trainable)


def test_a_lora_on_the_others_trains_beside_the_frozen(model: Model, mask: FreezeMask, adapted: Any) -> None:
    free = lora_targets(model.network, mask)
    assert free
    assert not any(f"unet/{name}.weight" in mask.frozen for name in free)
    before = weights(model)
    adapted(free)
    with guarded(model, mask) as guard:
        optimizer = torch.optim.AdamW([p for p in model.network.parameters() if p.requires_grad], lr=1e-2)
        first = float(loss(model.network).detach())
        train(model.network, optimizer)
        guard.check()
        assert float(loss(model.network).detach()) != first
    model.network.unload_lora()
    assert same(weights(model), before)


def test_no_layer_left_for_a_lora_is_told(model: Model) -> None:
    with pytest.raises(UserError, match="none of them is free"):
        lora_targets(model.network, random_mask(model, 1.0))


def test_it_works_in_a_loop_of_accelerate(model: Model, mask: FreezeMask) -> None:
    """As in diffusers' examples: prepare, accumulate, clip, step."""
    from accelerate import Accelerator

    before, unet = weights(model), model.network.requires_grad_(True).train()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer: Any = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.1)
    with guarded(unet, mask) as guard:
        unet, optimizer = accelerator.prepare(unet, optimizer)
        assert guard.strip(optimizer) == len(mask.frozen)
        for number in range(4):
            with accelerator.accumulate(unet):
                accelerator.backward(loss(unet, number))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(unet.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            guard.check()
    assert moved(model, before) == set(mask.trainable)


def test_it_works_under_distributed_data_parallel(model: Model, mask: FreezeMask, tmp_path: Path) -> None:
    """Frozen first, wrapped then: wrapped first, it would wait for the frozen tensors' gradients."""
    import torch.distributed as dist

    before, unet = weights(model), model.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        with guarded(unet, mask) as guard:
            wrapped = nn.parallel.DistributedDataParallel(unet)
            guard.strip(optimizer)
            train(wrapped, optimizer)
            guard.check()
        with guarded(wrapped, mask) as guard:  # again, as in an epoch of its own
            guard.strip(optimizer)
            train(wrapped, optimizer)
        late = nn.parallel.DistributedDataParallel(unet.requires_grad_(True))
        with pytest.raises(UserError, match="guarded first and wrapped then"), guarded(late, mask):
            pass
        for p in guard.frozen.values():
            p.requires_grad_(False)  # too late: it waits for them all the same
        with pytest.raises(UserError, match="guarded first and wrapped then"), guarded(late, mask):
            pass
        waits = nn.parallel.DistributedDataParallel(unet, find_unused_parameters=True)
        with guarded(waits, mask):
            pass
    finally:
        dist.destroy_process_group()
    assert moved(model, before) == set(mask.trainable)


class Compiled(nn.Module):
    """As torch.compile leaves a module, without the seconds that its import takes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def test_wrappers_are_looked_through(model: Model) -> None:
    unet = model.network
    assert unwrapped(unet) is unwrapped(model) is unwrapped(nn.DataParallel(unet)) is unet
    assert unwrapped(nn.DataParallel(Compiled(unet))) is unet
    itself = type("Itself", (), {})()
    itself.unet = itself
    for odd in (None, "unet", itself):
        with pytest.raises(UserError, match="as the model to guard"):
            unwrapped(odd)
