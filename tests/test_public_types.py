"""A type checker reads the return type of every public function, and none of them is Any."""

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import liftscape as ls

MODULES = {"ls": ls, "ls.curvature": ls.curvature, "ls.checks": ls.checks}
FUNCTIONS = sorted(
    f"{prefix}.{name}"
    for prefix, module in MODULES.items()
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
)
CLASSES = sorted(
    f"{prefix}.{name}"
    for prefix, module in MODULES.items()
    for name in module.__all__
    if inspect.isclass(getattr(module, name))
)
# Each expression with the type that a reader of the documentation expects.
EXPRESSIONS = {
    "ls.EmpiricalRisk(model, 'mse', (x, x))": "EmpiricalRisk",
    "ls.lift(model, x, '0').model": "Module",
    "ls.certify(risk).inertia": "Inertia | None",
    "ls.curvature.eigenpairs(risk.hessian(), 3).values": "Tensor",
    "ls.find_critical_point(risk).status": "Literal",
    "ls.find_sites(model, x)[0].name": "str",
    "ls.inspect(risk).verdict": "str",
}


@pytest.fixture(scope="module")
def revealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    folder = tmp_path_factory.mktemp("typed")
    lines = [
        "import torch",
        "import liftscape as ls",
        "model, x = torch.nn.Sequential(torch.nn.Linear(1, 1)), torch.zeros(1, 1)",
        "risk = ls.EmpiricalRisk(model, 'mse', (x, x))",
        *(f"reveal_type({expression})" for expression in [*FUNCTIONS, *CLASSES, *EXPRESSIONS]),
    ]
    (folder / "uses.py").write_text("\n".join(lines) + "\n")
    source = Path(ls.__file__).parent.parent
    settings = {"include": ["uses.py"], "extraPaths": [str(source)], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "--project", str(folder)], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert not [each for each in found if each["severity"] == "error"], done.stdout
    pairs = (re.fullmatch(r'Type of "(.+)" is "(.+)"', each["message"], re.DOTALL) for each in found)
    return {pair[1]: pair[2] for pair in pairs if pair is not None}


def returned(signature: str) -> str:
    """Return what stands behind the arrow that follows a signature's outermost parentheses."""
    depth = 0
    for place, sign in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth == 0:
            # The standard library's slice takes no parameters at run time, so that its Any cannot be helped.
            return signature[place + 1 :].removeprefix(" -> ").replace("slice[Any, Any, Any]", "slice")
    raise AssertionError(f"{signature} has no arrow")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_returns_any(revealed: dict[str, str], function: str) -> None:
    assert re.search(r"\b(Any|Unknown)\b", returned(revealed[function])) is None, revealed[function]


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_classes(revealed: dict[str, str], name: str) -> None:
    assert revealed[name].startswith("type["), revealed[name]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_have_the_documented_types(revealed: dict[str, str], expression: str) -> None:
    assert revealed[expression].startswith(EXPRESSIONS[expression]), revealed[expression]
