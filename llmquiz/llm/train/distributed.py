"""Data parallelism: the same step on several processes, each with its share of the batch.

What people get wrong is the average. DDP and FSDP leave in `.grad` the mean over ranks. If each rank divides its loss
by its own tokens, that is a mean of means, and a rank with short answers counts as much as one with long ones. Here a
rank's loss is a sum; the mean of the sums, times the ranks, over all tokens of all ranks is the gradient that one
process with the whole batch would have had. `Trainer` does that; a lab adds

```python
def train(ranks, tell, seed):                  # a function of a module: every rank imports it
    model = wrap(build(seed), ranks, shard=False)  # then make the optimizer and the Trainer
    tell(trainer.step([ranks.share(batch)]))       # the ranks draw the same batch; only rank 0 is heard
    return whole_weights(model)

weights = launch(train, seed, processes=2, device="cuda", tell=report)
```

DDP (Li et al. 2020) keeps everything on every rank. FSDP2 (Zhao et al. 2023; stage 3 of ZeRO) keeps 1/n of weights,
gradients and optimizer state on each, and gathers a layer's weights when it is their turn.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map, tree_map_only

from llmquiz.llm.errors import TrainingError

_READY, _FAILED = "ready", "failed"  # in the store: how many have imported what they need; who failed first
_PATIENCE = timedelta(minutes=5)  # with a rank that does not come to an exchange


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: str

    def share(self, batch: Any) -> Any:
        """This rank's rows of a batch: every world-th of each tensor in it.

        Raises:
            TrainingError: if there are fewer rows than ranks.
        """

        def rows(tensor: Tensor) -> Tensor:
            if len(tensor) < self.world:
                raise TrainingError(f"a batch of {len(tensor)} cannot be shared by {self.world} processes; enlarge it")
            return tensor[self.rank :: self.world]

        return tree_map_only(Tensor, rows, batch) if self.world > 1 else batch


def launch(work: Callable[..., Any], *args: Any, processes: int, device: str, tell: Callable[..., object]) -> Any:
    """Call `work(ranks, tell, *args)` in `processes` processes at once; what it returns in this one, which is rank 0.

    Args:
        work: a function of a module or of a lab's script; the other ranks import that anew.
        args: what can be pickled.
        device: the n-th rank takes the n-th GPU of cuda; on the CPU ranks share the cores.
        tell: what rank 0 calls to report; the other ranks get one that says nothing.

    Raises:
        TrainingError: if there are not so many GPUs, or another rank fails.
    """
    if processes == 1:
        return work(Ranks(0, 1, device), tell, *args)
    _check_devices(processes, device)
    store = TCPStore("127.0.0.1", 0, processes, is_master=True, wait_for_workers=False)
    others = _start_others(work, args, processes, device, store.port)
    try:
        _wait_until_ready(others, store)
        result = work(_join(0, processes, device, store), tell, *args)
        dist.barrier()  # nobody leaves while another still needs it
    except RuntimeError as error:
        _end(others)
        _refuse_failed(others, store, error)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        _end(others)
        for other in others:
            other.kill()
    return result


def torchrun_ranks(device: str) -> Ranks:
    """Join the processes that torchrun started, for scripts of one's own.

    Raises:
        TrainingError: if torchrun did not start this process.
    """
    if "RANK" not in os.environ:
        raise TrainingError("RANK is not set; start with torchrun --nproc-per-node N script.py")
    return _join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), device, None)


def wrap(model: nn.Module, ranks: Ranks, *, shard: bool = False) -> nn.Module:
    """`model` with its gradients shared among the ranks: by DDP, or by FSDP2 if `shard`. Make the optimizer after it:
    FSDP puts shards in place of the parameters. The ranks must hold equal weights."""
    if ranks.world == 1:
        return model
    if not shard:
        return DistributedDataParallel(model)
    mesh = init_device_mesh(torch.device(ranks.device).type, (ranks.world,))
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    for block in max(lists, key=len, default=()):  # the layers: each is gathered and freed by itself
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def num_ranks(model: nn.Module) -> int:
    """Processes that share in `model`'s gradients; 1 for a model that is not wrapped."""
    return dist.get_world_size() if isinstance(model, DistributedDataParallel | FSDPModule) else 1


@contextmanager
def gradient_sync(model: nn.Module, on: bool) -> Iterator[None]:
    """Whether a backward pass inside exchanges gradients: of several micro-batches only the last need do so."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)
        yield
    elif isinstance(model, DistributedDataParallel) and not on:
        with model.no_sync():
            yield
    else:
        yield


def sum_over_ranks(model: nn.Module, values: Tensor) -> Tensor:
    """`values` added up over the ranks of `model`, in place."""
    if num_ranks(model) > 1:
        dist.all_reduce(values)
    return values


def unwrap(model: nn.Module) -> nn.Module:
    """The model as it was made: DDP is a module around it, FSDP changes it in place."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters by name, gathered and on the CPU; all ranks call it together."""
    named = unwrap(model).named_parameters()
    return {name: whole(weight.detach()).to("cpu", copy=True) for name, weight in named if weight.requires_grad}


def whole(state: Any) -> Any:
    """`state`, any nesting of tensors, with every shard gathered; all ranks call it together."""
    return tree_map(lambda leaf: leaf.full_tensor() if isinstance(leaf, DTensor) else leaf, state)


def held_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as `parameter` is held: this rank's shard of it, or as it is."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor


def _check_devices(processes: int, device: str) -> None:
    if device == "cuda" and processes > torch.cuda.device_count():
        raise TrainingError(f"{processes} processes need a GPU each and there are {torch.cuda.device_count()}")
    if device not in ("cpu", "cuda"):
        raise TrainingError(f"several processes on {device} are not supported; use one, or cpu or cuda")


def _start_others(
    work: Callable[..., Any], args: tuple[Any, ...], processes: int, device: str, port: int
) -> list[SpawnProcess]:
    """Ranks 1 .. processes - 1. They are spawned, for neither CUDA nor OpenMP survives a fork."""
    script = sys.modules[work.__module__].__file__
    job = (work.__module__, script, pickle.dumps((work, args)), processes, device, port, torch.get_num_threads())
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_other_rank, args=(rank, *job), daemon=True) for rank in range(1, processes)]
    for other in others:
        other.start()
    return others


def _other_rank(
    rank: int, module: str, script: str, job: bytes, processes: int, device: str, port: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    if module not in sys.modules:  # a lab's script has a name that no import finds
        spec = importlib.util.spec_from_file_location(module, script)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    store = TCPStore("127.0.0.1", port, processes, is_master=False)
    try:
        work, args = pickle.loads(job)
        store.add(_READY, 1)
        work(_join(rank, processes, device, store), _say_nothing, *args)
        dist.barrier()
    except BaseException as error:
        store.compare_set(_FAILED, "", f"{type(error).__name__}: {error} in rank {rank}")
        raise
    dist.destroy_process_group()


def _say_nothing(*_: object, **__: object) -> None:
    """What ranks other than 0 report to."""


def _join(rank: int, world: int, device: str, store: Store | None) -> Ranks:
    """Become a rank; without a `store` the environment that torchrun set says where the others are."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    elif store is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    return Ranks(rank, world, device)


def _wait_until_ready(others: list[SpawnProcess], store: Store) -> None:
    """Until all have imported what they need: joining would wait in vain for one that fails before."""
    while store.add(_READY, 0) < len(others):
        _refuse_failed(others, store, None)
        time.sleep(0.02)


def _refuse_failed(others: list[SpawnProcess], store: Store, cause: Exception | None) -> None:
    """Name the first process that failed: by what it left in the store, or by its exit code if it was killed."""
    if store.check([_FAILED]):
        raise TrainingError(f"{store.get(_FAILED).decode()} of {len(others) + 1} processes") from cause
    for number, other in enumerate(others, start=1):
        if other.exitcode:
            raise TrainingError(f"rank {number} of {len(others) + 1} processes ended; the log says why") from cause


def _end(others: list[SpawnProcess]) -> None:
    for other in others:
        other.join(1.0)
