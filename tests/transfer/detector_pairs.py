"""One Faster R-CNN twice, by our recipes: in Detectron2 and in MMDetection, with the same weights everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from head_names import mmdet_heads, mmdet_name
from networks import randomised
from torch import Tensor, nn

from transfer.compat import prepare_detectron2, prepare_mmcv

prepare_detectron2()
prepare_mmcv()

from detectron2.modeling import build_model  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

import transfer.mmdet.heads  # noqa: E402, F401  (registers the C4 head)
from transfer.convert import convert  # noqa: E402
from transfer.d2.config import load_config as load_detectron2_config  # noqa: E402
from transfer.mmdet.config import load_config as load_mmdet_config  # noqa: E402
from transfer.weights import load_exact  # noqa: E402

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {  # head: Detectron2's config, MMDetection's config
    "fpn": ("d2/coco_{}_fpn_1x.yaml", "mmdet/faster-rcnn_{}-fpn_1x_coco.py"),
    "c4": ("d2/voc_{}_c4_24k.yaml", "mmdet/faster-rcnn_{}-c4_voc0712.py"),
}
# The spread of what an output layer returns, for which there are many detections of many classes.
SPREAD = {"objectness_logits": 2.0, "anchor_deltas": 0.3, "cls_score": 4.0, "bbox_pred": 1.0}

register_all_modules(init_default_scope=False)


@dataclass(frozen=True)
class Truth:
    """The objects of a picture: boxes (n, 4) x0, y0, x1, y1 in pixels, labels (n,) int64."""

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Pair:
    """The two detectors.

    Attributes:
        head: "c4" or "fpn".
        detectron2: GeneralizedRCNN.
        mmdet: FasterRCNN.
        configs: The config of either.
        sizes: Number of anchor sizes at a place.
    """

    head: str
    detectron2: Any
    mmdet: Any
    configs: tuple[Any, Any]
    sizes: int

    def inputs(self, images: list[Tensor], truths: list[Truth] | None = None) -> tuple[list[dict[str, Any]], Any]:
        """Return a batch for either detector.

        Args:
            images: (3, H, W) uint8, RGB, of any sizes.
            truths: The objects of each, for training.

        Returns:
            What Detectron2's forward takes; what MMDetection's data_preprocessor returns, normalised and padded.
        """
        theirs: list[dict[str, Any]] = []
        samples = []
        for index, image in enumerate(images):
            height, width = image.shape[1:]
            theirs.append({"image": image, "height": height, "width": width})
            sample = DetDataSample(
                metainfo={"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
            )
            if truths is not None:
                truth = truths[index]
                theirs[-1]["instances"] = Instances(
                    (height, width), gt_boxes=Boxes(truth.boxes.clone()), gt_classes=truth.labels
                )
                sample.gt_instances = InstanceData(bboxes=truth.boxes.clone(), labels=truth.labels)
            samples.append(sample)
        batch = {"inputs": [image.flip(0) for image in images], "data_samples": samples}  # read as BGR
        return theirs, self.mmdet.data_preprocessor(batch, training=False)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return soft patches of colour with noise on them: (3, height, width) uint8."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand(1, 3, height // 16, width // 16, generator=generator)
    smooth = 255 * nn.functional.interpolate(patches, (height, width), mode="bicubic")[0]
    return (smooth + 20 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255).round().to(torch.uint8)


def detectron2_config(arch: str, head: str, overrides: Sequence[str] = ()) -> Any:
    """Return the config of our recipe for Detectron2, on the CPU."""
    path = CONFIGS / RECIPES[head][0].format(arch.replace("esnet", ""))
    return load_detectron2_config(path, None, ["MODEL.DEVICE", "cpu", *overrides])


def mmdet_config(arch: str, head: str, options: Sequence[str] = ()) -> Any:
    """Return the config of our recipe for MMDetection."""
    path = CONFIGS / RECIPES[head][1].format(arch.replace("esnet", ""))
    return load_mmdet_config(path, options=list(options))


def build_mmdet(cfg: Any) -> Any:
    """Return MMDetection's detector; its weights are not what `init_weights` would make them."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


def build_pair(arch: str, head: str, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> Pair:
    """Build both detectors from one random backbone, converted for each, and the same pyramid and heads.

    Args:
        arch: "resnet18" or "resnet50".
        head: "c4" or "fpn".
        overrides: KEY VALUE ... for Detectron2's config.
        options: key=value for MMDetection's.
    """
    backbone = randomised(arch)
    configs = detectron2_config(arch, head, overrides), mmdet_config(arch, head, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = build_model(configs[0]).eval(), build_mmdet(configs[1])
    second.eval()  # mmdet's returns None
    load_exact(first, convert(backbone, "detectron2", head=head).state_dict, "detectron2")
    enliven(first, picture(160, 192))
    load_exact(second, convert(backbone, "mmdet", head=head).state_dict, "mmdet")
    sizes = len(configs[0].MODEL.ANCHOR_GENERATOR.SIZES[0])
    heads = mmdet_heads(first.state_dict(), sizes, len(configs[0].MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]))
    second.load_state_dict(heads, strict=False)
    filled = {*convert(backbone, "mmdet", head=head).state_dict, *heads}
    assert filled == set(second.state_dict())
    return Pair(head, first, second, configs, sizes)


def fresh_pair(arch: str, head: str) -> Pair:
    """Return both detectors as a run from random weights starts them."""
    configs = detectron2_config(arch, head), mmdet_config(arch, head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = build_model(configs[0]), build_mmdet(configs[1])
        second.init_weights()
    return Pair(head, first, second, configs, len(configs[0].MODEL.ANCHOR_GENERATOR.SIZES[0]))


@torch.no_grad()
def enliven(detector: Any, image: Tensor) -> None:
    """Give the pyramid and the heads of a Detectron2 detector random weights for which there is much to compare.

    At their initial values the heads find next to nothing, and biases are 0. In one forward pass each layer gets, as
    its turn comes, a spread of its outputs that suits it; in the output layers no channel is ahead on average.
    """
    generator = torch.Generator().manual_seed(0)
    done = set()

    def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if module in done:  # the head of the RPN comes by on every level
            return None
        done.add(module)
        name = names[module].rpartition(".")[2]
        axes = [0, *range(2, output.dim())]
        if hasattr(module, "running_mean"):
            means, variance = inputs[0].mean(axes), inputs[0].var(axes).mean()  # one of a dead channel would be 0
            noise = [torch.rand(means.shape, generator=generator) for _ in range(4)]
            module.running_mean.copy_(means + (noise[0] - 0.5) * variance.sqrt())
            module.running_var.copy_(variance * (noise[1] + 0.5))
            module.weight.copy_(noise[2] + 0.5)
            module.bias.copy_(noise[3] - 0.5)
        elif getattr(module, "norm", None) is None:
            spread = SPREAD.get(name, 1.0)
            module.weight.mul_(spread / output.std(axes).mean())
            module.bias.copy_(0.2 * spread * torch.randn(module.bias.shape, generator=generator))
            if name in SPREAD:
                module.bias.sub_(module.forward(*inputs).mean(axes))
        return module.forward(*inputs)

    names = {
        detector.get_submodule(name.removesuffix(".weight")): name.removesuffix(".weight")
        for name, _ in detector.named_parameters()
        if name.endswith(".weight") and mmdet_name(name) is not None
    }
    handles = [module.register_forward_hook(hook) for module in names]
    detector.inference([{"image": image}])
    for handle in handles:
        handle.remove()
    assert done == set(names)
