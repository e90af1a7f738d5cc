import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_onnx_runtime_does_not_report_to_its_makers(tmp_path):
    """Where it does, it first makes up an id for the machine, in the home directory."""
    code = "from models.detector import OnnxDetector; OnnxDetector()"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    assert not list(tmp_path.rglob("*"))


def test_only_the_detector_imports_it():
    importing = [
        path.relative_to(ROOT)
        for layer in ("models", "indexer", "service")
        for path in (ROOT / layer).rglob("*.py")
        if re.search(r"^\s*(import|from) onnxruntime\b", path.read_text(), re.MULTILINE)
    ]

    assert importing == [Path("models/detector.py")]
