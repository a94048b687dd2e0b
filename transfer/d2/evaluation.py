"""VOC and COCO evaluation with the AP50 of each class, which Detectron2 computes and then averages away."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator, inference_on_dataset
from detectron2.evaluation.pascal_voc_evaluation import voc_eval
from detectron2.utils import comm
from torch import nn

from pretrain.console import progress
from transfer.d2.data import NamingMapper

THRESHOLDS = range(50, 100, 5)  # IoU in percent


class VocEvaluator(PascalVOCDetectionEvaluator):
    """AP over ten IoU thresholds as Detectron2 reports it; for 2007 each AP is the 11-point one of the devkit."""

    def evaluate(self) -> dict[str, Any] | None:
        """Return {"bbox": {"AP", "AP50", "AP75", "AP50-<class>"}} in percent on rank 0, None elsewhere."""
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        lines: dict[int, list[str]] = defaultdict(list)
        for predictions in gathered:
            for class_id, entries in predictions.items():
                lines[class_id].extend(entries)
        table = np.zeros((len(self._class_names), len(THRESHOLDS)))
        with tempfile.TemporaryDirectory(prefix="voc-evaluation-") as folder:
            for class_id, name in enumerate(self._class_names):
                Path(folder, f"{name}.txt").write_text("\n".join(lines[class_id]))
                for column, threshold in enumerate(THRESHOLDS):
                    _, _, ap = voc_eval(
                        f"{folder}/{{}}.txt",
                        self._anno_file_template,
                        self._image_set_path,
                        name,
                        ovthresh=threshold / 100,
                        use_07_metric=self._is_2007,
                    )
                    table[class_id, column] = 100 * ap
        summary = {"AP": table.mean(), "AP50": table[:, 0].mean(), "AP75": table[:, 5].mean()}
        summary |= {f"AP50-{name}": table[class_id, 0] for class_id, name in enumerate(self._class_names)}
        return {"bbox": {name: float(value) for name, value in summary.items()}}


class CocoEvaluator(COCOEvaluator):
    """COCO's twelve figures, with the AP50 of each class added."""

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        results: dict[str, float] = super()._derive_coco_results(coco_eval, iou_type, class_names)
        if coco_eval is None:  # a detector that found nothing at all: its precision is 0, not unknown
            return dict.fromkeys(results, 0.0)
        for index, name in enumerate(class_names or []):
            # (IoU threshold, recall, class, area, detections): IoU 0.5, any area, most detections; -1: no such object
            precision = coco_eval.eval["precision"][0, :, index, 0, -1]
            precision = precision[precision > -1]
            results[f"AP50-{name}"] = float(100 * precision.mean()) if precision.size else float("nan")
        return results


def build_evaluator(cfg: CfgNode, name: str) -> VocEvaluator | CocoEvaluator:
    """Return the evaluator that belongs to the data set."""
    if MetadataCatalog.get(name).evaluator_type == "pascal_voc":
        return VocEvaluator(name)
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    return CocoEvaluator(name, tasks=tasks, output_dir=str(Path(cfg.OUTPUT_DIR, "inference")))


def evaluate(cfg: CfgNode, model: nn.Module, shown: bool = True) -> dict[str, dict[str, float]]:
    """Evaluate on the config's test set, all ranks together.

    Args:
        cfg: One data set in DATASETS.TEST.
        model: A detector; it is put back into the mode it was in.
        shown: Whether to show progress; not while another bar is on the screen.

    Returns:
        {"bbox": {"AP", "AP50", "AP75", "AP50-<class>", ...}} in percent on rank 0, empty elsewhere.
    """
    [name] = cfg.DATASETS.TEST
    loader = build_detection_test_loader(cfg, name, mapper=NamingMapper(cfg, is_train=False))
    evaluator = build_evaluator(cfg, name)
    with contextlib.ExitStack() as stack:
        advance: Callable[..., None] = lambda: None  # noqa: E731
        if shown and comm.is_main_process():
            advance = stack.enter_context(progress(f"evaluating on {name}", len(loader)))
        chatter = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # pycocotools prints
        results: dict[str, dict[str, float]] = inference_on_dataset(model, Counted(loader, advance), evaluator) or {}
    logging.getLogger("detectron2.evaluation").info("%s", chatter.getvalue())
    return results


class Counted:
    """A loader that tells how far it has come."""

    def __init__(self, loader: Any, advance: Callable[..., None]) -> None:
        self._loader, self._advance = loader, advance

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._advance()
