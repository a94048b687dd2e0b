"""What training costs: floating-point operations of a step, counted without data, and hours under a named assumption.

A multiply-add counts as two operations. Convolutions and matrix products are counted, attention among them; what works
element by element is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from pretrain.automix import AutoMix, AutoMixSettings
from pretrain.console import UserError
from pretrain.data.prepare import DATA_SETS
from pretrain.training.cells import Cell, cells
from pretrain.training.method_settings import VanillaSettings
from pretrain.training.methods import untrained_method_of
from pretrain.training.settings import BackboneSettings, DataSettings, OptimSettings, Settings, load_settings

SETS = {data_set.key: data_set for data_set in DATA_SETS}
TRIALS = 3  # the paper's figures are means of three

# Training speed on one A100, images/s at 224 pixels: NVIDIA, DeepLearningExamples, PyTorch/Classification/ConvNets,
# "Training performance: NVIDIA DGX A100", the rows of one GPU.
A100 = {
    ("resnet50", "amp"): 2470.0,
    ("resnet50", "tf32"): 938.0,
    ("resnext101_32x4d", "amp"): 908.4,
    ("resnext101_32x4d", "tf32"): 300.42,
    ("efficientnet_b0", "amp"): 2489.0,
    ("efficientnet_b0", "tf32"): 1078.0,
}
# Training speed on one RTX 3090, images/s at 224 pixels, mixed precision, channels_last: timm,
# results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv. Only ratios to a network of A100 are used.
RTX_3090 = {
    "resnet18": 3481.78,
    "resnet34": 2036.51,
    "resnet50": 1218.01,
    "resnet101": 747.89,
    "wide_resnet50_2": 668.78,
    "resnext50_32x4d": 1001.03,
    "resnext101_32x4d": 609.01,
    "efficientnet_b0": 1751.72,
    "mobilenetv2_100": 2313.1,
    "convnext_tiny": 819.24,
    "deit_small_patch16_224": 1050.7,
    "swin_tiny_patch4_window7_224": 648.69,
}
KIN = {"resnext50_32x4d": "resnext101_32x4d", "mobilenetv2_100": "efficientnet_b0"}  # the others: ResNet-50
# Where most operations are matrix products, 32 bits are float32 proper: torch lets convolutions use TF32, not products.
# No training speed is published for that on an A100. On a V100 (same source as A100) ResNet-50 makes 367 images/s.
OF_MATRICES = ("convnext_tiny", "deit_small_patch16_224", "swin_tiny_patch4_window7_224")
V100_FP32, V100_PEAK, A100_PEAK = 367.0, 15.7e12, 19.5e12
# Networks for 32 and 64 pixels: the ImageNet form with the same layers, times what small images and batches lose. That
# share is our own of an H100 (docs/performance.md): CIFAR ResNet-18 at 32 pixels over ResNet-18 at 224, in float32.
SMALL = {
    "cifar_resnet18": "resnet18",
    "cifar_resnext50_32x4d": "resnext50_32x4d",
    "cifar_wrn28_8": "wide_resnet50_2",
}
H100_SECONDS = {"cifar_resnet18": 6.9e-3 / 64, "resnet18": 32.8e-3 / 256}  # an image
# A step over a vanilla step, measured: docs/performance.md, "The mixing methods", at 32 and at 64 pixels. Methods that
# are not here cost what vanilla does, within 2 %, AttentiveMix's frozen network apart; AutoMix's share is counted.
FACTORS = {"manifoldmix": (1.035, 1.008), "puzzlemix": (1.674, 1.730), "comixup": (1.692, 1.922)}

ASSUMPTION = (
    "GFLOP: of a training step, an image. Hours: of one run on one A100, at an assumed speed (TFLOP/s) that follows "
    "from speeds that others published; nothing was measured on an A100 here. All hours: every row of the column, "
    "three trials. Sources, and what is left out: docs/scaling.md."
)


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, with three of its formulas replaced; read it by `get_total_flops()`.

    torch counts the weight gradient of a grouped convolution as if it had one group: 4.8 forward passes for a step of
    ResNeXt-101, 42 for one of EfficientNet-B0. It does not count the attention of CPUs. Of a fused attention's backward
    pass it counts what a kernel computes anew to save memory; here that is left out, so that the count is the same on
    every device.
    """
    aten: Any = torch.ops.aten
    forward = {aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    backward = {
        getattr(aten, f"_scaled_dot_product_{kind}_backward"): _attention_backward
        for kind in ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
        if hasattr(aten, f"_scaled_dot_product_{kind}_backward")
    }
    formulas = {aten.convolution_backward: _convolution_backward, **forward, **backward}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    nobody: Any = nullcontext()  # counting by modules hooks their gradients, which saliency's autograd.grad cannot bear
    nobody.parents = {"Global"}
    counter.mod_tracker = nobody
    return counter


def _convolution_backward(output: Any, images: Any, weight: Any, *rest: Any, out_shape: Any = None) -> int:
    """Each of the two gradients takes as many operations as the forward pass; the first layer needs one of them."""
    _, _, _, _, transposed, _, _, wanted = rest
    places = math.prod((images if transposed else output)[2:])
    return 2 * images[0] * places * math.prod(weight) * sum(map(bool, wanted[:2]))


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(output: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    return 2 * sdpa_flop_count(query, key, value)


def step_flops(settings: Settings, num_classes: int, batch: int = 2) -> int:
    """Count the operations of one training step of vanilla or AutoMix, all branches; nothing is computed or read.

    Args:
        settings: Of the run.
        num_classes: Width of the head.
        batch: Images, on which the count depends linearly.

    Raises:
        UserError: Another method; how much those compute depends on the images.
    """
    if not isinstance(settings.method, AutoMixSettings | VanillaSettings):
        raise UserError(f"'{settings.method.name}': only steps of vanilla and automix are counted without data")
    with torch.device("meta"):
        method = untrained_method_of(settings, num_classes).train()
    size = settings.data.transform.size
    with FakeTensorMode(), flop_counter() as counter:
        _let_be_fake(method)
        images, labels = torch.empty(batch, 3, size, size), torch.zeros(batch, dtype=torch.long)
        generator = torch.Generator()
        if isinstance(method, AutoMix):
            index = torch.arange(batch)
            method.training_step(images, labels, 0.5, 0.5, index, index, generator, torch.Tensor.backward)
        else:
            method.training_step(images, labels, generator=generator, backward=torch.Tensor.backward)
    return counter.get_total_flops()


def _let_be_fake(module: nn.Module) -> None:
    """Replace tensors on the meta device by fake ones of the CPU, whose operations are those of a real step."""
    fakes: dict[int, torch.Tensor] = {}  # a tensor that two modules share stays one
    for part in module.modules():
        stores: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for store in stores:
            for name, tensor in store.items():
                if tensor is not None and id(tensor) not in fakes:
                    fake = torch.empty(tuple(tensor.shape), dtype=tensor.dtype)
                    parameter = isinstance(tensor, nn.Parameter)
                    fakes[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
                if tensor is not None:
                    store[name] = fakes[id(tensor)]


def sustained(backbone: str, precision: str) -> float:
    """Return the operations a second that a training run on one A100 is assumed to sustain.

    Published images a second times operations an image; see the tables of this module for the sources, and
    docs/scaling.md for the arithmetic. An assumption: nothing was measured on an A100 here.

    Args:
        backbone: A network of the paper's tables.
        precision: `run.precision`.

    Raises:
        UserError: No speed of such a network is known.
    """
    if backbone in SMALL:
        [cell] = cells(1, "cifar100/r18_800ep", "vanilla")
        small = _image_flops(cell.path, "vanilla", 100) / H100_SECONDS["cifar_resnet18"]
        return sustained(SMALL[backbone], precision) * small / (_flops_at_224("resnet18") / H100_SECONDS["resnet18"])
    if backbone not in RTX_3090:
        raise UserError(f"backbone '{backbone}': no training speed of it on a GPU is known here")
    kind = "amp" if "mixed" in precision else "tf32"
    kin = backbone if (backbone, kind) in A100 else KIN.get(backbone, "resnet50")
    rate = A100[kin, kind] * _flops_at_224(kin)
    if backbone in OF_MATRICES and kind == "tf32":
        rate = V100_FP32 * _flops_at_224(kin) * A100_PEAK / V100_PEAK
    return rate * RTX_3090[backbone] * _flops_at_224(backbone) / (RTX_3090[kin] * _flops_at_224(kin))


def _flops_at_224(backbone: str) -> float:
    """Return the operations of a vanilla step with an image of 224 pixels, 1,000 classes."""
    plain = Settings(name="", data=DataSettings(root=""), method=VanillaSettings(), backbone=BackboneSettings(backbone))
    return _counted(plain, 1000)


def _image_flops(path: Path, method: str, classes: int) -> float:
    """Return the operations of a step, an image; columns that differ in their length alone are counted once."""
    settings = load_settings(path, method=method)
    return _counted(replace(settings, name="", optim=OptimSettings()), classes)


@cache
def _counted(settings: Settings, classes: int) -> float:
    return step_flops(settings, classes) / 2


@dataclass(frozen=True)
class ColumnCost:
    """What one column of a table costs.

    Attributes:
        table: The table's number in the paper.
        config: Name of the config.
        methods: The rows that can be trained.
        images: Images that one run sees.
        vanilla, automix: Floating-point operations of a training step, an image.
        speed: Operations a second that are assumed; see `sustained`.
    """

    table: int
    config: str
    methods: tuple[str, ...]
    images: int
    vanilla: float
    automix: float
    speed: float

    def hours(self, method: str) -> float:
        """Return the GPU hours of one run."""
        small = self.config.startswith("cifar")
        factor = FACTORS.get(method, (1.0, 1.0))[0 if small else 1]
        flops = self.automix if method == "automix" else factor * self.vanilla
        return self.images * flops / self.speed / 3600

    @property
    def all_hours(self) -> float:
        """The GPU hours of every row, three trials each."""
        return TRIALS * sum(self.hours(method) for method in self.methods)


def column_costs(table: int | None = None) -> Iterator[ColumnCost]:
    """Yield the cost of each column of the paper's tables, table after table; see `cells`."""
    columns: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells(table):
        columns.setdefault((cell.table, cell.config), []).append(cell)
    for (number, config), found in columns.items():
        methods = tuple(cell.method for cell in found if cell.trainable)
        data_set = SETS[config.partition("/")[0]]
        images, classes = data_set.images["train"], data_set.classes
        settings = load_settings(found[0].path, method="vanilla")
        batch = settings.data.batch_size
        yield ColumnCost(
            table=number,
            config=config,
            methods=methods,
            images=images // batch * batch * settings.optim.epochs,
            vanilla=_image_flops(found[0].path, "vanilla", classes),
            automix=_image_flops(found[0].path, "automix", classes),
            speed=sustained(settings.backbone.name, settings.run.precision),
        )


def total_hours(columns: Iterable[ColumnCost]) -> float:
    """Return the GPU hours of all rows of the columns, three trials each; a run that two tables share counts once."""
    return TRIALS * sum({(c.config, method): c.hours(method) for c in columns for method in c.methods}.values())
