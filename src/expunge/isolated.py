"""What a caller has set for the whole process does not reach in, and what is done inside does not change it.

torch keeps a default number type and random states for a whole process, and autocast for a thread. An image that
depended on them would lie in the cache under the name of another, and a measurement that took from the random state
would change what its caller draws next. All public functions that draw, train or judge are `isolated`. Random numbers
that another thread draws meanwhile are drawn again after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

Args = ParamSpec("Args")
T = TypeVar("T")


def isolated(function: Callable[Args, T]) -> Callable[Args, T]:
    """The function in float32, without autocast, and with the caller's random state put back at its end."""
    @wraps(function)
    def inside(*args: Args.args, **kwargs: Args.kwargs) -> T:
        with isolation():
            return function(*args, **kwargs)

    return inside


@contextmanager
def isolation() -> Iterator[None]:
    """See `isolated`."""
    import torch

    before = torch.get_default_dtype()
    devices = [*range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, before)
        yield
