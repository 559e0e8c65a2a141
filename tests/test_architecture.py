"""Guards: rules of the house that a machine checks, so that nobody has to remember them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("appliance", "export", "firmware_bridge", "web")
MODULE_MAX_LINES = 300
FUNCTION_MAX_LINES = 60
SHIPPED = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FORBIDDEN_IN_BOX = {"torch", "transformers", "optimum", "onnx", "safetensors"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public_definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def test_guards_see_the_packages() -> None:
    assert len(SHIPPED) > 20


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_module_is_short_and_opens_with_its_purpose(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_MAX_LINES, f"{name_of(path)} has {text.count(chr(10))} lines"
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} does not say what it is for"


@pytest.mark.parametrize("path", SHIPPED + TESTS, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name} {node.end_lineno - node.lineno + 1}"
        for node in functions(ast.parse(path.read_text()))
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION_MAX_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_public_definitions_have_docstrings(path: Path) -> None:
    missing = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for node in public_definitions(ast.parse(path.read_text()).body)
        if not ast.get_docstring(node)
        and not any(re.search("overload|setter", ast.dump(item)) for item in node.decorator_list)
        # click finds these by name and documents them itself.
        and node.name not in {"list_commands", "get_command"}
    ]
    assert missing == []


@pytest.mark.parametrize("path", SHIPPED + TESTS, ids=name_of)
def test_each_type_ignore_has_code_and_reason(path: Path) -> None:
    marker = "type: " + "ignore"
    bare = [
        f"{name_of(path)}:{number}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marker in line and not re.search(marker + r"\[[a-z-, ]+\]\s+#\s*\S+", line)
    ]
    assert bare == []


def test_no_committed_file_names_a_package_index() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted", "registry.npm" + "js", "deb.debian" + ".org"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    naming = [
        name
        for name in listed
        if (ROOT / name).is_file() and any(host.encode() in (ROOT / name).read_bytes() for host in hosts)
    ]
    assert naming == []


@pytest.mark.parametrize("package", ["appliance.cli", "appliance.service", "web.cli", "appliance.commands.generate"])
def test_the_box_never_imports_the_workstation_packages(package: str) -> None:
    code = f"import {package}, sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not FORBIDDEN_IN_BOX & set(done.stdout.split())


# Running a __main__ is its purpose; the workstation side's imports take seconds each and its own tests make them.
IMPORTABLE = [path for path in SHIPPED if path.name != "__main__.py" and not path.is_relative_to(ROOT / "export")]


@pytest.mark.parametrize("path", IMPORTABLE, ids=name_of)
def test_module_can_be_imported_alone(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    done = subprocess.run([sys.executable, "-W", "error", "-c", f"import {module}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
