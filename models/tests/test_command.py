"""A command says what was typed; without packages, on Ctrl-C and on bad input it is one line."""

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from models import packages
from models.command import command
from models.errors import DatasetError
from models.packages import EXTRAS, how_to_install

ROOT = Path(__file__).parent.parent.parent
LAYERS = ("models", "indexer", "service")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
    if "tests" not in path.parts
}
COMMANDS = {name for name, text in MODULES.items() if '\nif __name__ == "__main__"' in text}
NEED_TORCH = ("models.nn.", "service.train.")
NEED_NOTHING = {"indexer.bench.sizing", "service.demo.page_pictures"}
PRESS_CTRL_C = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"


def typed(name):
    return f"python -m {name.removesuffix('.__main__')}"


def bare(name, *words, **environment):
    """Run a command with a Python that has no packages."""
    return subprocess.run(
        [sys.executable, "-S", "-m", name.removesuffix(".__main__"), *words],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True,
    )  # fmt: skip


def test_there_are_commands_in_every_layer():
    assert {name.partition(".")[0] for name in COMMANDS} == {*LAYERS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_run_before_it_imports_anything(name):
    beginning = r'""".*?"""\n\nif __name__ == "__main__":\n    from models.command import run\n\n'

    assert re.match(rf'{beginning}    run\("{re.escape(name)}"\)\n\n', MODULES[name], re.DOTALL)


@pytest.mark.parametrize("name", sorted(COMMANDS - NEED_NOTHING))
def test_a_command_without_its_packages_says_what_installs_them(name):
    ended = bare(name, "--help")

    assert ended.returncode == 2
    assert re.fullmatch(
        r"error: \w+ is not installed: .*pip install -e '\.\[\w+\]'\n", ended.stderr
    )


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_ctrl_c_while_a_command_starts_is_one_line(name, tmp_path):
    for module in ("argparse", "pydantic"):  # one of them is imported by each
        (tmp_path / f"{module}.py").write_text(PRESS_CTRL_C)

    ended = bare(name, PYTHONPATH=str(tmp_path))

    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


@pytest.mark.slow
def test_usage_names_what_was_typed():
    names = sorted(COMMANDS)
    if importlib.util.find_spec("torch") is None:
        names = [name for name in names if not name.startswith(NEED_TORCH)]
    code = (
        "import contextlib, io, runpy, sys\n"
        "for name in sys.argv[1:]:\n"
        "    sys.argv = ['x', '--help']\n"
        "    with contextlib.suppress(SystemExit): runpy.run_module(name, run_name='__main__')\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout

    usages = re.findall(r"^usage: (python -m [\w.]+)", printed, re.MULTILINE)
    assert usages == [typed(name) for name in names]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("models.evaluate", "onnxruntime", "cpu"),
        ("service.__main__", "uvicorn", "cpu"),
        ("service.train.__main__", "torch", "train"),
        ("models.nn.export", "torch", "train"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(name, package, extra):
    code = f"import sys; sys.modules[{package!r}] = None\n"
    code += f"from models.command import run; run({name!r})"

    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 2
    assert re.fullmatch(
        rf"error: {package} is not installed: .*pip install -e '\.\[{extra}\]'\n", ended.stderr
    )


# What a main raises.


def ends(capsys, main):
    code = command(main)()
    return code, capsys.readouterr().err


def test_what_is_refused_is_one_line(capsys):
    def refuse():
        raise DatasetError("scenes: no such folder")

    assert ends(capsys, refuse) == (2, "error: scenes: no such folder\n")


def test_a_file_that_cannot_be_written_is_named(capsys, tmp_path):
    def write():
        (tmp_path / "nowhere" / "file").write_text("")

    code, said = ends(capsys, write)

    assert (code, said) == (2, f"error: {tmp_path}/nowhere/file: No such file or directory\n")


def test_ctrl_c_is_one_line_that_may_say_how_to_go_on(capsys):
    def stop():
        os.kill(os.getpid(), signal.SIGINT)

    def stop_with_more_to_say():
        raise KeyboardInterrupt("the same command goes on")

    assert ends(capsys, stop) == (130, "interrupted\n")
    assert ends(capsys, stop_with_more_to_say) == (130, "interrupted: the same command goes on\n")


def test_a_mistake_in_our_own_code_keeps_its_traceback():
    def forget():
        import models.nowhere  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        command(forget)()
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 // 0)()


# What is installed.

OTHER_NAMES = {
    "PIL": "pillow",
    "anyio": "fastapi",
    "faiss": "faiss-cpu",
    "pydantic": "pydantic-settings",
    "pydantic_core": "pydantic-settings",
    "starlette": "fastapi",
}


def test_every_package_that_is_imported_is_in_the_extra_that_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = {**project["project"]["optional-dependencies"], **project["dependency-groups"]}
    lists["cpu"] = lists["cpu"] + project["project"]["dependencies"]
    imported = {
        name
        for text in MODULES.values()
        for node in ast.walk(ast.parse(text))
        for name in _imports(node)
    } - {*sys.stdlib_module_names, *LAYERS}

    assert imported >= {"numpy", "torch", "faiss", "playwright"}
    for name in imported:
        wanted = OTHER_NAMES.get(name, name.replace("_", "-"))
        assert any(re.match(rf"{wanted}\b", one) for one in lists[EXTRAS.get(name, "cpu")]), (
            f"{name}: {wanted} is not in {EXTRAS.get(name, 'cpu')}"
        )


def _imports(node):
    """The packages that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return {node.module.partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()


def test_packages_are_installed_from_the_checkout_by_the_python_that_runs(monkeypatch, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(packages.shutil, "which", lambda name: "/usr/bin/pip")
    monkeypatch.chdir(ROOT)
    assert how_to_install("torch") == f"{python} -m pip install -e '.[train]'"
    monkeypatch.chdir(tmp_path)
    assert how_to_install("torch") == f"venv/bin/python -m pip install -e '{ROOT}[train]'"
    monkeypatch.setattr(packages.shutil, "which", lambda name: str(python.with_name("pip")))
    assert how_to_install("numpy") == f"pip install -e '{ROOT}[cpu]'"
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    assert how_to_install("numpy") == "pip install 'nae-search[cpu]'"
