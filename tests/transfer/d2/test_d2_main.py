"""The same tests on Detectron2's main, where it lies beside the installed one; else this says how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHOSEN = {
    "tests/transfer/test_verify.py": "resnet18 or resnet50 or resnext50 or stride or eps",
    "tests/transfer/test_swin.py": "detectron2",
    "tests/transfer/test_convert.py": "names_are or formats or yaml",
    "tests/transfer/test_back.py": "resnet18 or run",
    "tests/transfer/d2": "not main and not ranks",
}


@pytest.mark.slow
@pytest.mark.parametrize("tests", CHOSEN)
def test_on_main(tests: str) -> None:
    folder = os.environ.get("DETECTRON2_MAIN")
    if not folder:
        pytest.skip(
            "DETECTRON2_MAIN names no folder: python tools/install_detectron2 --main work_dirs/detectron2_main, then "
            "DETECTRON2_MAIN=work_dirs/detectron2_main"
        )
    main = str(Path(ROOT, folder))
    assert Path(main, "detectron2", "modeling", "backbone", "swin.py").is_file(), (
        f"{main} does not hold Detectron2's main"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, "-k", CHOSEN[tests]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([main, str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert " skipped" not in run.stdout
