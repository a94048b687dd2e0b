"""The stages of the quickstart: the commands a user would type, in order, each done once."""

from __future__ import annotations

from pathlib import Path

from evidence.stages import Stage

WORK = Path("work_dirs/quickstart")  # where the configs of configs/quickstart look for the data
DRAW = ("--draw", "6", "--draw-threshold", "0.2")  # detectors of three passes over the data are not sure of much


def plan() -> list[Stage]:
    """Return the stages; everything they make lies below WORK."""
    work, data, pretrain = WORK, WORK / "data", WORK / "pretrain"
    networks = {"automix": pretrain / "automix/export/teacher", "vanilla": pretrain / "vanilla/export/model"}
    stages = [
        Stage(
            "data",
            "Demo scenes in four layouts",
            ("python", "tools/prepare_demo.py", "--out", str(data)),
            data / "complete.json",
        ),
        Stage(
            "pretrain",
            "Pretraining: AutoMix and vanilla",
            ("tools/pretrain.sh", "configs/quickstart/pretrain.py", "--method", "automix", "vanilla")
            + ("--work-dir", str(pretrain), "--resume", "auto"),
            pretrain / "vanilla/result.json",
            ("data",),
        ),
    ]
    for method, network in networks.items():
        targets = [("d2", "convert_to_d2"), ("mmdet", "convert_to_mmdet")]
        for target, tool in targets if method == "automix" else targets[:1]:
            converted = work / f"converted/{method}_{target}.pth"
            stages.append(
                Stage(
                    f"convert_{method}_{target}",
                    f"Conversion with proof: {method} to {'Detectron2' if target == 'd2' else 'MMDetection'}",
                    ("python", f"tools/{tool}.py", f"{network}.safetensors", str(converted), "--head", "fpn"),
                    converted.with_suffix(".json"),
                    ("pretrain",),
                )
            )
    for start in ("automix", "vanilla", "random"):
        weights = ("--from-scratch",) if start == "random" else ("--weights", str(work / f"converted/{start}_d2.pth"))
        stages.append(
            Stage(
                f"d2_{start}",
                f"Faster R-CNN in Detectron2, VOC layout, from {start}",
                ("python", "tools/finetune_d2.py", "--config", "configs/quickstart/voc_r18_fpn.yaml", *weights)
                + ("--data-root", str(data), "--output", str(work / f"d2/{start}"), "--seed", "0", "--resume")
                + DRAW,
                work / f"d2/{start}/results.json",
                ("data",) if start == "random" else ("data", f"convert_{start}_d2"),
            )
        )
    for start in ("automix",):
        stages.append(
            Stage(
                f"mmdet_{start}",
                f"Faster R-CNN in MMDetection, COCO layout, from {start}",
                ("python", "tools/finetune_mmdet.py", "configs/quickstart/coco_r18_fpn.py")
                + ("--weights", str(work / f"converted/{start}_mmdet.pth"), "--data-root", str(data))
                + ("--work-dir", str(work / f"mmdet/{start}"), "--seed", "0", "--resume")
                + DRAW,
                work / f"mmdet/{start}/results.json",
                ("data", f"convert_{start}_mmdet"),
            )
        )
    for method, network in {**networks, "random": networks["vanilla"]}.items():
        stages.append(
            Stage(
                f"wsol_{method}",
                f"Localisation on the CUB layout: {method}",
                ("python", "tools/eval_wsol.py", "--checkpoint", f"{network}.safetensors")
                + ("--data", str(data / "CUB_200_2011"), "--input-size", "128", "--draw", "3")
                + ("--out", str(work / f"wsol/{method}"))
                + (("--random-weights",) if method == "random" else ()),
                work / f"wsol/{method}/wsol.json",
                ("data", "pretrain"),
            )
        )
    return stages
