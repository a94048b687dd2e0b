"""Where the numbers are that the authors' code computed: AUTOMIX_CASES names another folder of the same form."""

import os
from pathlib import Path

import torch

OWN_CASES = Path(__file__).parents[2] / "cases" / "mix_block"
CASES = Path(os.environ.get("AUTOMIX_CASES", OWN_CASES))
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def pytest_generate_tests(metafunc):
    """Parametrise tests that ask for `case` or `step_case`, each from its file."""
    for fixture, file in (("case", "cases.pt"), ("step_case", "full_step.pt")):
        if fixture in metafunc.fixturenames:
            path = CASES / file
            cases = torch.load(path, weights_only=True) if path.is_file() else []
            metafunc.parametrize(fixture, cases, ids=[_name(case, i) for i, case in enumerate(cases)])


def _name(case, number):
    lam = f"lam{case['lam']:g}" if "lam" in case else f"lam_q{case['lam_bb']:.3f}-lam_k{case['lam_mb']:.3f}"
    shape = "x".join(map(str, case["img"].shape))
    return f"{number}-{case.get('variant', 'step')}-{lam}-{shape}"


def pytest_terminal_summary(terminalreporter):
    """Name the parity cases and the ablations that passed, which `pytest -q` shows as dots."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", []) if "[" in report.nodeid]
    for title, test in (
        ("parity with the authors' code, Mix Block", "test_parity.py::test_every_gradient"),
        ("parity with the authors' code, whole step", "test_parity.py::test_whole_step"),
        ("ablations", "test_ablations.py::test_every_ablation_makes_a_step"),
    ):
        if names := sorted(nodeid.partition("[")[2].rstrip("]") for nodeid in passed if f"{test}[" in nodeid):
            terminalreporter.write_line(f"{title}, passed: {', '.join(names)}")
