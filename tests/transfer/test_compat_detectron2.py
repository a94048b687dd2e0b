"""The Detectron2 half of transfer.compat: each shim does its work where it is needed and nothing where it is not."""

import importlib
import pkgutil
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.console import UserError
from transfer.compat import detectron2_shims as shims

detectron2 = pytest.importorskip("detectron2", reason="Detectron2 is not installed: run tools/install_detectron2")


@pytest.fixture
def old_release(tmp_path):
    """A folder with just the passages by which the shims know v0.6."""
    for file, passage in {
        "data/transforms/transform.py": "def __init__(self, src_rect, interp=Image.LINEAR):",
        "data/datasets/pascal_voc.py": "fileids = np.loadtxt(f, dtype=np.str)",
        "layers/rotated_boxes.py": "from detectron2 import _C",
        "modeling/box_regression.py": "@torch.jit.script",
        "modeling/anchor_generator.py": "shift_y, shift_x = torch.meshgrid(shifts_y, shifts_x)",
    }.items():
        path = tmp_path / "old" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(passage)
    return tmp_path / "old"


@pytest.fixture
def later(tmp_path):
    """A folder without any of those passages."""
    path = tmp_path / "later/layers/rotated_boxes.py"
    path.parent.mkdir(parents=True)
    path.write_text("return torch.ops.detectron2.box_iou_rotated(boxes1, boxes2)")
    return tmp_path / "later"


@pytest.fixture
def no_compiled_part(monkeypatch):
    """Importing detectron2._C fails as it does where it was not compiled; all is put back after the test."""
    monkeypatch.setattr(detectron2, "_C", None, raising=False)
    monkeypatch.setitem(sys.modules, "detectron2._C", None)


def test_pil_linear_comes_back_as_bilinear(monkeypatch, old_release):
    monkeypatch.delattr(Image, "LINEAR", raising=False)
    assert shims.restore_pil_linear(old_release) == "PIL.Image.LINEAR"
    assert Image.LINEAR == Image.BILINEAR == 2  # the value Pillow gave both names until version 10
    assert shims.restore_pil_linear(old_release) is None, "there already"


def test_pil_is_left_alone_for_later_versions(monkeypatch, later):
    monkeypatch.delattr(Image, "LINEAR", raising=False)
    assert shims.restore_pil_linear(later) is None
    assert not hasattr(Image, "LINEAR")


def test_numpy_aliases_are_pythons_own_types(monkeypatch, old_release):
    for name in ("bool", "int", "float", "str"):
        if vars(np).get(name) is not np.bool_:  # NumPy 2 has its own np.bool; it stays
            monkeypatch.delitem(vars(np), name, raising=False)
    before = dict(vars(np))
    done = shims.restore_numpy_aliases(old_release)
    added = {name: vars(np)[name] for name in vars(np).keys() - before.keys()}
    assert {"int": int, "float": float, "str": str}.items() <= added.items() <= {**added, "bool": bool}.items()
    assert done == ", ".join(f"np.{name}" for name in ("bool", "int", "float", "str") if name in added)
    assert np.zeros(1, dtype=np.bool).dtype == bool


def test_numpy_is_left_alone_for_later_versions(monkeypatch, later):
    for name in ("int", "float", "str"):
        monkeypatch.delitem(vars(np), name, raising=False)
    assert shims.restore_numpy_aliases(later) is None
    assert "int" not in vars(np)


@pytest.mark.usefixtures("no_compiled_part")
def test_stand_in_names_the_remedy(old_release):
    assert shims.stand_in_for_compiled_part(old_release).startswith("a stand-in for detectron2._C")
    from detectron2 import _C

    with pytest.raises(AttributeError, match=r"nms_rotated: this Detectron2 has no compiled part.*docs/install\.md"):
        _C.nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)
    assert _C.has_cuda() is False


def test_a_compiled_part_is_kept(monkeypatch, old_release):
    compiled = types.ModuleType("detectron2._C")
    monkeypatch.setitem(sys.modules, "detectron2._C", compiled)
    assert shims.stand_in_for_compiled_part(old_release) is None
    assert sys.modules["detectron2._C"] is compiled


@pytest.mark.usefixtures("no_compiled_part")
def test_later_versions_get_no_stand_in(later):
    assert shims.stand_in_for_compiled_part(later) is None
    assert sys.modules["detectron2._C"] is None


def test_torchs_notes_are_hushed_where_the_release_causes_them(old_release, later):
    def heard(folder) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            shims.hush_torch_notes(folder)
            warnings.warn("torch.meshgrid: in an upcoming release, it will be required to ...", stacklevel=1)
            warnings.warn("`torch.jit.script` is deprecated. Please ...", FutureWarning, stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        return [str(one.message)[:14] for one in caught]

    assert heard(old_release) == ["something else"]
    assert heard(later) == ["torch.meshgrid", "`torch.jit.scr", "something else"]


def test_prepare_says_what_it_found_and_does_it_once():
    line = shims.prepare_detectron2()
    assert line.startswith(f"Detectron2 {detectron2.__version__}, ")
    assert "compiled; shims: " in line
    assert shims.prepare_detectron2() is line


def test_missing_detectron2_names_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed .*run `python tools/install_detectron2`"):
        shims.prepare_detectron2.__wrapped__()


def test_every_module_imports_but_those_for_caffe2():
    """Caffe2 left torch in 2023, so v0.6's export to it, and the counting of operations over it, cannot be had."""
    shims.prepare_detectron2()
    refused = set()
    for module in pkgutil.walk_packages(detectron2.__path__, "detectron2.", onerror=refused.add):
        if module.name.startswith(("detectron2.model_zoo.configs", "detectron2.export.", "detectron2._C")):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError:
            refused.add(module.name)
    assert refused <= {"detectron2.export", "detectron2.utils.analysis"}


def test_default_setups_list_of_the_environment():
    shims.prepare_detectron2()
    from detectron2.utils.collect_env import collect_env_info

    assert "Compiler" in collect_env_info()


def test_voc_layout_is_read_and_scored(tmp_path):
    """The VOC reader (np.str) and evaluator (np.bool): perfect detections have AP 100, the missed box is difficult."""
    shims.prepare_detectron2()
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets.pascal_voc import register_pascal_voc
    from detectron2.evaluation import PascalVOCDetectionEvaluator
    from detectron2.structures import Boxes, Instances

    box = (
        "<object><name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>{}</difficult><bndbox>"
        "<xmin>11</xmin><ymin>21</ymin><xmax>{}</xmax><ymax>60</ymax></bndbox></object>"
    )
    size = "<size><width>100</width><height>80</height></size>"
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("000001\n000002\n")
    for picture, boxes in {"000001": box.format(0, 50) + box.format(1, 90), "000002": box.format(0, 50)}.items():
        (tmp_path / f"Annotations/{picture}.xml").write_text(f"<annotation>{size}{boxes}</annotation>")
    name = f"voc_of_test_compat_{tmp_path.name}"
    register_pascal_voc(name, str(tmp_path), "test", 2007, class_names=("cat",))
    try:
        records = DatasetCatalog.get(name)
        assert records[0]["annotations"][0]["bbox"] == [10.0, 20.0, 50.0, 60.0]  # VOC counts pixels from 1
        found = Instances((80, 100))
        found.pred_boxes = Boxes(torch.tensor([[10.0, 20.0, 50.0, 60.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        evaluator = PascalVOCDetectionEvaluator(name)
        evaluator.reset()
        evaluator.process(records, [{"instances": found}] * 2)
        assert evaluator.evaluate()["bbox"] == pytest.approx({"AP": 100.0, "AP50": 100.0, "AP75": 100.0})
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
