"""What a way of training costs over vanilla training, as benchmarks/study_steps.py measured it."""

from __future__ import annotations

from evidence.stages import ROOT
from evidence.study.records import CellRecord
from pretrain.console import UserError
from pretrain.files import read_json

COSTS = ROOT / "docs/study_cost.json"


def cost_of(record: CellRecord) -> float:
    """Return the cost of a record's training in vanilla trainings. The seconds that it took depend on what else ran.

    Raises:
        UserError: This way of training was not measured.
    """
    costs = read_json(COSTS) if COSTS.is_file() else {}
    try:
        return float(costs[record.source][record.condition])
    except KeyError as error:
        raise UserError(
            f"{COSTS}: has no cost of {record.source}, {record.condition}; "
            "measure it: python benchmarks/study_steps.py --out docs/study_cost.json"
        ) from error
