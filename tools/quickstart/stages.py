"""The stages of the quickstart: the commands a user would type, in order, each done once."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pretrain.console import INTERRUPTED, UserError
from pretrain.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
WORK = Path("work_dirs/quickstart")  # where the configs of configs/quickstart look for the data
DRAW = ("--draw", "6", "--draw-threshold", "0.2")  # detectors of three passes over the data are not sure of much


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: Of its record under stages/.
        title: What it does, for people.
        command: Its words; "python" stands for this interpreter. Paths are relative to the repository.
        makes: The file that is there when the command has succeeded.
        needs: Names of the stages whose output it reads.
    """

    name: str
    title: str
    command: tuple[str, ...]
    makes: Path
    needs: tuple[str, ...] = ()


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


def run(stages: list[Stage], records: Path) -> None:
    """Run every stage that is not done yet; a stage is done while its command, configs and inputs are the same.

    A stage that was stopped goes on where it was, and its seconds count over all sittings.

    Raises:
        UserError: A command failed; what was done before it is kept.
        SystemExit: Ctrl-C, status 130; likewise. The command has said so itself.
    """
    console = Console(stderr=True, highlight=False)
    fingerprints: dict[str, str] = {}
    for number, stage in enumerate(stages, start=1):
        fingerprint = fingerprints[stage.name] = _fingerprint(stage, fingerprints)
        heading = f"[{number}/{len(stages)}] {stage.title}"
        record = records / f"{stage.name}.json"
        before = read_json(record) if record.is_file() else {}
        begun = before.get("fingerprint") == fingerprint
        if begun and before["done"] and (ROOT / stage.makes).is_file():
            console.print(f"{heading}: done already", style="dim")
            continue
        console.print(f"\n{heading}", style="bold", markup=False)
        console.print(f"$ {shlex.join(stage.command)}", style="cyan", markup=False, soft_wrap=True)
        started = time.monotonic()
        status = _call(stage.command)
        done = status == 0 and (ROOT / stage.makes).is_file()
        entry = {"title": stage.title, "command": shlex.join(stage.command), "fingerprint": fingerprint, "done": done}
        earlier = before["seconds"] if begun and not before["done"] else 0.0
        seconds = earlier + time.monotonic() - started
        write_json(record, {**entry, "seconds": seconds})
        if status == INTERRUPTED:
            raise SystemExit(INTERRUPTED)
        if not done:
            why = f"ended with status {status}" if status else f"left no {stage.makes}"
            raise UserError(f"stage '{stage.name}' {why}; mend what it names above and type the same command again")
        console.print(f"{stage.title}: {seconds:.0f} s", style="green", markup=False)


def _call(command: tuple[str, ...]) -> int:
    """Run a command in the repository's folder and return its status.

    Ctrl-C reaches the command as well; it is left the time to clean up behind itself.
    """
    words = [sys.executable if word == "python" else word for word in command]
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHON": sys.executable}) as process:
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue
            return INTERRUPTED if status == -signal.SIGINT else status  # -SIGINT: stopped before it could answer


def _fingerprint(stage: Stage, done: dict[str, str]) -> str:
    """Digest of the command, of the configs it names, and of the stages it needs."""
    configs = [ROOT / word for word in stage.command if word.startswith("configs/")]
    parts = [
        stage.command,
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in configs if path.is_file()],
        [done[name] for name in stage.needs],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
