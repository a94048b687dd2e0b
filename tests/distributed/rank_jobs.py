"""What the tests of this folder do on each rank; called in the test's own process, on one process alone."""

import os
import signal
import time
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from pretrain.automix import AutoMixSettings
from pretrain.automix.momentum import own_part
from pretrain.backbones import build_backbone
from pretrain.console import ResumeMe, UserError
from pretrain.evaluation.accuracy import accuracy
from pretrain.evaluation.mixed_accuracy import mixed_accuracy
from pretrain.training import loop
from pretrain.training.checkpoint import has_state, whole
from pretrain.training.devices import average_gradients, launch_fabric
from pretrain.training.methods import build_method, method_of
from pretrain.training.settings import load_settings
from pretrain.training.sharding import clip_norm

WITHOUT_BATCH_NORM = "test_efficientnet_gn"  # a sample's features do not depend on the rest of its batch


def _fabric(precision="32-true"):
    """Return a launched Fabric: of the pool's two ranks, or of one process on the CPU."""
    if "RANK" in os.environ:
        return launch_fabric(precision)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.launch()
    return fabric


def _arrays(tensors):
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in whole(dict(tensors), keep=True).items()}


def automix_steps(options):
    """Train three steps of AutoMix in double precision; return all weights.

    A batch is eight images, of which each of two ranks takes half. Partners are within a half, so that one process
    with the whole batch mixes the same pairs.
    """
    fabric = _fabric()
    torch.manual_seed(0)
    method = build_method(AutoMixSettings(**options), build_backbone(WITHOUT_BATCH_NORM, 3), 3).double()
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.1, momentum=0.9)
    draw = torch.Generator().manual_seed(1)
    mine = slice(fabric.global_rank * 8 // fabric.world_size, (fabric.global_rank + 1) * 8 // fabric.world_size)
    for step, (lam_q, lam_k) in enumerate([(0.3, 0.9), (0.97, 0.2), (0.6, 0.5)]):  # 0.97: plain MixUp in "openmixup"
        images = torch.randn(8, 3, 64, 64, generator=draw, dtype=torch.float64)
        labels = torch.randint(3, (8,), generator=draw)
        halves = [torch.cat([torch.randperm(4, generator=draw), 4 + torch.randperm(4, generator=draw)]) for _ in "qk"]
        index_q, index_k = (index[mine] - mine.start for index in halves)
        method.set_progress(step, 3)
        method.training_step(images[mine], labels[mine], lam_q, lam_k, index_q, index_k, backward=Tensor.backward)
        average_gradients(method.parameters(), fabric)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step()
    return _arrays(method.state_dict().items())


def train_run(config, changes, folder, method=None, resume=False, ask=None):
    """Run the loop on this rank.

    Args:
        ask: (rank, step): that rank gets SIGUSR1 after that step.

    Returns:
        The run's last step, what ResumeMe said or None, all parameters by name, and the networks that the method
        evaluates, with their buffers.
    """
    runs = []

    class Observed(loop.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            runs.append(self)

        def _step(self, images, labels):
            super()._step(images, labels)
            if ask == (self.fabric.global_rank, self.step):
                os.kill(os.getpid(), signal.SIGUSR1)

    settings = load_settings(config, changes, method)
    stopped = None
    with patch.object(loop, "Run", Observed):
        try:
            loop.train(settings, folder, resume, _fabric(settings.run.precision))
        except ResumeMe as stop:
            stopped = str(stop)
    [run] = runs
    networks = {name: _arrays(network.state_dict().items()) for name, network in run.method.encoders().items()}
    parameters = _arrays(run.method.named_parameters())
    return {"step": run.step, "stopped": stopped, "parameters": parameters, "networks": networks}


def written_when_stopped(config, folder):
    """Stop in an epoch, while rank 0 takes its time to write the state; return whether it was there at the end."""
    save_state = loop.save_state

    def slowly(*arguments):
        time.sleep(0.5)
        save_state(*arguments)

    with patch.object(loop, "save_state", slowly):
        stopped = train_run(config, {"run.log_every": 1}, folder, "vanilla", False, (1, 2))["stopped"]
    return stopped is not None, has_state(folder)


def train_from_apart(*arguments):
    """Do as `train_run`, where rank 1 has built a network of other weights."""

    def apart(settings, classes):
        method = method_of(settings, classes)
        for parameter in method.parameters():
            parameter.data += int(os.environ["RANK"])
        return method

    with patch.object(loop, "method_of", apart):
        return train_run(*arguments)


def held_by_rank(config, changes, folder, method):
    """Return how many numbers of a network, of its average and of its momentum this rank holds after a run."""
    held = {}

    class Observed(loop.Run):
        def fit(self, stop):
            super().fit(stop)
            for part in ("model", "average"):
                held[part] = sum(own_part(p.detach()).numel() for p in getattr(self.method, part).parameters())
            buffers = [entry["momentum_buffer"] for entry in self.optimizer.optimizer.state.values()]
            held["momentum"] = sum(own_part(buffer).numel() for buffer in buffers)

    settings = load_settings(config, changes, method)
    with patch.object(loop, "Run", Observed):
        loop.train(settings, folder, False, _fabric(settings.run.precision))
    return held


def stop_at_nan(config, changes, folder, method):
    """Run until the first state is saved, with a NaN in rank 1's shard of a weight; return the error."""

    class Broken(loop.Run):
        def _save(self):
            if self.fabric.global_rank == 1:
                own_part(self.method.model.layer1[0].conv1.weight.detach()).view(-1)[0] = float("nan")
            super()._save()

    settings = load_settings(config, changes, method)
    with patch.object(loop, "Run", Broken):
        try:
            loop.train(settings, folder, False, _fabric(settings.run.precision))
        except UserError as error:
            return str(error)


def clipped_norm():
    """Clip a gradient in shards, 3 and 0, and a whole one, 4, to 1; return the norm, and what 3 and 4 became."""
    mesh = init_device_mesh("cpu", (_fabric().world_size,))
    pair, single = (nn.Parameter(torch.zeros(size)) for size in (2, 1))
    sharded = nn.Parameter(distribute_tensor(pair.detach(), mesh, [Shard(0)]))
    sharded.grad, single.grad = distribute_tensor(torch.tensor([3.0, 0.0]), mesh, [Shard(0)]), torch.tensor([4.0])
    norm = clip_norm([sharded, single], 1.0).item()
    return norm, [sharded.grad.full_tensor()[0].item(), single.grad.item()]


def accuracies():
    """Measure a fixed network on this rank's share of five batches of different sizes; on one process, on all."""
    fabric = _fabric()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7)).eval()
    patterns = network[1].weight.detach().view(7, 3, 4, 4)  # what the network looks for, under noise: often found
    labels = [torch.randint(7, (size,)) for size in (9, 5, 8, 3, 6)]
    batches = [(torch.randn(len(batch), 3, 4, 4) + 2 * patterns[batch], batch) for batch in labels]
    mine = batches[fabric.global_rank :: fabric.world_size]

    def mix(images, targets):
        return 0.6 * images + 0.4 * images.flip(0), 0.6 * targets + 0.4 * targets.flip(0)

    return {**accuracy({"net": network}, mine, 7, fabric), **mixed_accuracy(network, mine, mix, 7, fabric)}
