"""Whether a config fits the weights and the published protocol: all that contradicts, told before anything is built.

Detectron2's defaults belong to its own weights: BGR, std 1, the stride in the 1x1 convolution, frozen norms and
frozen first stages. A config that leaves one of them in place trains without an error and loses points of AP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transfer.finetuning.check import COMMAND_LINE, Finding, same, told

EXTRA_NORM_HEAD = "Res5ROIHeadsExtraNorm"
BATCH_NORMS = ("SyncBN", "BN", "naiveSyncBN", "nnSyncBN")
KNOWN_NORMS = (*BATCH_NORMS, "FrozenBN", "GN")  # what both versions of Detectron2 build
NORM, FPN_NORM = "MODEL.RESNETS.NORM", "MODEL.FPN.NORM"
FREEZE_AT, ROI_HEADS = "MODEL.BACKBONE.FREEZE_AT", "MODEL.ROI_HEADS.NAME"
BACKBONE, STD = "MODEL.BACKBONE.NAME", "MODEL.PIXEL_STD"
SWIN_BACKBONE = "build_swin_t_fpn_backbone"  # has LayerNorms, and nothing that could be frozen


@dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        values: {key: value} of the whole config.
        given: {key: where it was written, a path or COMMAND_LINE}; the rest are defaults.
        preprocessing: {key: value} that the card asks for.
        architecture: {key: value} that the card asks for; empty from scratch.
        weights: What the weights are, e.g. "resnet50, automix"; empty from scratch.
        built: "c4" or "fpn": the detector that the config builds.
        head: "c4" or "fpn", which the weights were converted for; empty where it is not known.
        convert: The command that converts them for the other head.
    """

    values: Mapping[str, Any]
    given: Mapping[str, str]
    preprocessing: Mapping[str, Any]
    architecture: Mapping[str, Any]
    built: str
    weights: str = ""
    head: str = ""
    convert: str = "tools/convert_to_d2.py CHECKPOINT OUT.pth"

    def departs(self, key: str) -> bool:
        """Return whether the command line asks for this value: then it is meant, and no slip of a copied config."""
        return self.given.get(key) == COMMAND_LINE


def findings(subject: Subject) -> list[Finding]:
    """Compare every setting on which the transfer of the weights rests; nothing is built and no data set is read."""
    of_resnets = [*_architecture(subject), *_norms(subject), _freezing(subject)]
    swin = subject.values[BACKBONE] == SWIN_BACKBONE
    return [*_preprocessing(subject), *([] if swin else of_resnets), *_heads(subject), *_rest(subject)]


def _preprocessing(subject: Subject) -> Iterator[Finding]:
    owner = f"but the weights ({subject.weights}) were trained with" if subject.weights else "but random weights get"
    for key, wanted in subject.preprocessing.items():
        found, problem = subject.values[key], ""
        if not same(found, wanted):
            caffe = key == STD and list(found) == [1.0, 1.0, 1.0]
            family = " (std 1 belongs to Detectron2's own Caffe weights, BGR)" if caffe else ""
            problem = f"{owner} {told(wanted)}{family}; take it out, the card decides it"
        yield Finding(key, told(wanted), told(found), problem)


def _architecture(subject: Subject) -> Iterator[Finding]:
    for key, wanted in subject.architecture.items():
        problem = f"but the weights ({subject.weights}) have {wanted}; set {key} {wanted}"
        problem = "" if subject.values[key] == wanted else problem
        yield Finding(key, str(wanted), str(subject.values[key]), problem)


def _norms(subject: Subject) -> Iterator[Finding]:
    norm = subject.values[NORM]
    problem = departure = ""
    if norm == "FrozenBN":
        if not subject.weights:
            problem = f"which from scratch freezes norms that no one trained; set {NORM} SyncBN"
        elif subject.departs(NORM):
            departure = "the protocol trains every norm (SyncBN)"
        else:
            problem = f"but the protocol trains every norm; set {NORM} SyncBN, or write it on the command line"
    elif norm not in BATCH_NORMS and subject.weights:
        problem = f"but the weights' norms are BatchNorm, whose running statistics would be lost; set {NORM} SyncBN"
    elif norm not in KNOWN_NORMS:
        problem = f"but it can be one of {', '.join(KNOWN_NORMS)}"
    yield Finding(NORM, "BatchNorm" if subject.weights else "SyncBN", told(norm), problem, departure)
    if subject.built == "fpn":
        yield _fpn_norm(subject, norm)


def _fpn_norm(subject: Subject, norm: str) -> Finding:
    found = subject.values[FPN_NORM]
    problem = departure = ""
    if found == "FrozenBN":
        problem = f"a fresh norm frozen at its initial values; set {FPN_NORM} SyncBN"
    elif found not in ("", *KNOWN_NORMS):
        problem = f"but it can be one of {', '.join(KNOWN_NORMS)}"
    elif found != norm and norm in KNOWN_NORMS and norm != "FrozenBN":
        if subject.departs(FPN_NORM):
            departure = f"the protocol has the backbone's norm there ({norm})"
        else:
            problem = f"but {NORM} is {norm} and the protocol has one norm in both; set {FPN_NORM} {norm}"
    return Finding(FPN_NORM, "SyncBN" if norm == "FrozenBN" else told(norm), told(found), problem, departure)


def _freezing(subject: Subject) -> Finding:
    stages = subject.values[FREEZE_AT]
    problem = departure = ""
    if stages > 0:
        if not subject.weights:
            problem = f"which from scratch freezes random layers; set {FREEZE_AT} 0"
        elif subject.departs(FREEZE_AT):
            departure = "the protocol trains every layer (0)"
        else:
            default = "" if FREEZE_AT in subject.given else "Detectron2's default, "
            problem = (
                f"{default}but the protocol trains every layer; set {FREEZE_AT} 0, or write it on the command line"
            )
    return Finding(FREEZE_AT, "0", str(stages), problem, departure)


def _heads(subject: Subject) -> Iterator[Finding]:
    built, name = subject.built, subject.values[ROI_HEADS]
    problem = ""
    if subject.head not in ("", built):
        detector = "an FPN" if built == "fpn" else "a C4"
        problem = f"{detector} detector, but the weights were converted with --head {subject.head}; {subject.convert}"
        problem += f" --head {built}"
    yield Finding(BACKBONE, f"--head {subject.head}" if subject.head else "-", subject.values[BACKBONE], problem)
    if built == "fpn":
        return
    norm, problem, departure = subject.values[NORM], "", ""
    if name == EXTRA_NORM_HEAD:
        if norm in ("FrozenBN", ""):
            problem = (
                f"whose extra norm is fresh: with {NORM} {told(norm)} it could not learn; set {NORM} SyncBN, or "
                f"{ROI_HEADS} Res5ROIHeads on the command line"
            )
    elif name == "Res5ROIHeads" and subject.values["MODEL.RESNETS.DEPTH"] < 50:
        problem = (
            f"which builds Bottleneck blocks, and resnet{subject.values['MODEL.RESNETS.DEPTH']} has none; "
            f"set {ROI_HEADS} {EXTRA_NORM_HEAD}"
        )
    elif subject.departs(ROI_HEADS):
        departure = f"the protocol has a norm after res5 ({EXTRA_NORM_HEAD})"
    else:
        problem = f"but the protocol has a norm after res5; set {ROI_HEADS} {EXTRA_NORM_HEAD}, or write it on the "
        problem += "command line"
    yield Finding(ROI_HEADS, EXTRA_NORM_HEAD, name, problem, departure)


def _rest(subject: Subject) -> Iterator[Finding]:
    """Yield the settings by which an honest run would break or load something else; only those that are wrong."""
    values = subject.values
    if values["MODEL.WEIGHTS"]:
        remedy = "but weights come by --weights, where every tensor is checked; take it out"
        yield Finding("MODEL.WEIGHTS", "-", values["MODEL.WEIGHTS"], remedy)
    if values["SOLVER.OPTIMIZER"] not in ("SGD", "ADAMW"):
        yield Finding("SOLVER.OPTIMIZER", "SGD", values["SOLVER.OPTIMIZER"], "it can be SGD or ADAMW")
    if values["SOLVER.REFERENCE_WORLD_SIZE"]:
        remedy = "by which Detectron2 would rescale the run behind its settings; take it out and use --scale-to"
        yield Finding("SOLVER.REFERENCE_WORLD_SIZE", "0", str(values["SOLVER.REFERENCE_WORLD_SIZE"]), remedy)
    sampler = values["DATALOADER.SAMPLER_TRAIN"]
    if sampler != "TrainingSampler":
        remedy = "which cannot be resumed exactly; use TrainingSampler"
        yield Finding("DATALOADER.SAMPLER_TRAIN", "TrainingSampler", sampler, remedy)
    data = (*values["DATASETS.TRAIN"], *values["DATASETS.TEST"])
    if values["MODEL.MASK_ON"] and any(name.startswith("voc_") for name in data):
        yield Finding(
            "MODEL.MASK_ON", "False", "True", "but VOC's detection sets have no masks; set MODEL.MASK_ON False"
        )
    if len(values["DATASETS.TEST"]) != 1:
        remedy = f"{len(values['DATASETS.TEST'])} data sets; it must name one"
        yield Finding("DATASETS.TEST", "one", told(values["DATASETS.TEST"]), remedy)
