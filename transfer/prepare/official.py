"""What the official sets are: their archives, classes and counts.

Sources: MD5 sums and addresses of VOC, torchvision/datasets/voc.py; its counts, the tables of the VOC 2007 and 2012
pages. MD5 sums of COCO, which publishes none itself: those that PaddleDetection, NVIDIA's and MLCommons' download
scripts agree on; its counts, Detectron2's and pycocotools' logs on the real files. Sizes are those that the servers
send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pretrain.archives.sources import Archive

VOC_SERVER = "https://thor.robots.ox.ac.uk/pascal/VOC"
COCO_SERVER = "http://images.cocodataset.org"

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
COCO_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # of 91 classes that were planned, 80 were annotated
COCO_CATEGORIES = dict(zip((id for id in range(1, 91) if id not in COCO_UNUSED_IDS), COCO_NAMES))

PICTURES = {
    "voc_2007_train": 2_501,
    "voc_2007_val": 2_510,
    "voc_2007_trainval": 5_011,
    "voc_2007_test": 4_952,
    "voc_2012_train": 5_717,
    "voc_2012_val": 5_823,
    "voc_2012_trainval": 11_540,
    "coco_2017_train": 118_287,
    "coco_2017_val": 5_000,
}
ANNOTATIONS = {"coco_2017_train": 860_001, "coco_2017_val": 36_781}


@dataclass(frozen=True)
class Family:
    """The sets that one tool prepares.

    Attributes:
        kind: "voc" or "coco".
        title: As people call it.
        command: The tool.
        train: A command that fine-tunes on it.
        archives: The official ones; `role` is the set that each brings.
        member: What detection reads of them; the first group is the path below `folder`.
        folder: Where it goes, below the folder of the data sets.
        expected: The tree, a line each.
    """

    kind: str
    title: str
    command: str
    train: str
    archives: tuple[Archive, ...]
    member: re.Pattern[str]
    folder: str
    expected: tuple[str, ...]

    def target(self, name: str, root: Path) -> Path | None:
        """Return where a member of an archive goes; None for one that detection does not read."""
        match = self.member.fullmatch(name)
        return root / self.folder / match[1] if match else None


VOC = Family(
    kind="voc",
    title="PASCAL VOC",
    command="python tools/prepare_voc.py",
    train="python tools/finetune_d2.py --config configs/d2/voc_r50_c4_24k.yaml",
    archives=(
        Archive(
            role="voc_2007_trainval",
            name="VOCtrainval_06-Nov-2007.tar",
            size=460_032_000,
            url=f"{VOC_SERVER}/voc2007/VOCtrainval_06-Nov-2007.tar",
            checksum="md5:c52e279531787c972589f7e41ab4ae64",
        ),
        Archive(
            role="voc_2007_test",
            name="VOCtest_06-Nov-2007.tar",
            size=451_020_800,
            url=f"{VOC_SERVER}/voc2007/VOCtest_06-Nov-2007.tar",
            checksum="md5:b6e924de25625d8de591ea690078ad9f",
        ),
        Archive(
            role="voc_2012_trainval",
            name="VOCtrainval_11-May-2012.tar",
            size=1_999_639_040,
            url=f"{VOC_SERVER}/voc2012/VOCtrainval_11-May-2012.tar",
            checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
        ),
    ),
    member=re.compile(
        r"VOCdevkit/(VOC20(?:07|12)/(?:JPEGImages/[^/]+\.jpg|Annotations/[^/]+\.xml|ImageSets/Main/[^/]+\.txt))"
    ),
    folder="VOCdevkit",
    expected=(
        "VOCdevkit/VOC2007/   and VOC2012 likewise",
        "    ImageSets/Main/{train,val,trainval,test}.txt   names of pictures",
        "    JPEGImages/NAME.jpg",
        "    Annotations/NAME.xml",
    ),
)

COCO = Family(
    kind="coco",
    title="COCO 2017",
    command="python tools/prepare_coco.py",
    train="python tools/finetune_d2.py --config configs/d2/coco_r50_c4_2x.yaml",
    archives=(
        Archive(
            role="coco_2017_train",
            name="train2017.zip",
            size=19_336_861_798,
            url=f"{COCO_SERVER}/zips/train2017.zip",
            checksum="md5:cced6f7f71b7629ddf16f17bbcfab6b2",
        ),
        Archive(
            role="coco_2017_val",
            name="val2017.zip",
            size=815_585_330,
            url=f"{COCO_SERVER}/zips/val2017.zip",
            checksum="md5:442b8da7639aecaf257c1dceb8ba8c80",
        ),
        Archive(
            role="annotations",
            name="annotations_trainval2017.zip",
            size=252_907_541,
            url=f"{COCO_SERVER}/annotations/annotations_trainval2017.zip",
            checksum="md5:f4bbac642086de4f52a3fdda2de5fa2c",
        ),
    ),
    member=re.compile(r"((?:train|val)2017/[^/]+\.jpg|annotations/instances_(?:train|val)2017\.json)"),
    folder="coco",
    expected=(
        "coco/",
        "    annotations/instances_{train,val}2017.json",
        "    train2017/*.jpg",
        "    val2017/*.jpg",
    ),
)
