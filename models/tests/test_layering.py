"""Serving never needs torch; each layer can be used without those above it."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "onnx", "tensorboard"):
    sys.modules[name] = None
{code}
"""


@pytest.mark.parametrize(
    "code",
    [
        "from service.app import create_app; from service.settings import Settings; "
        "create_app(Settings()).openapi()",
        "import service.demo, service.bench, service.__main__",
        "import indexer.__main__, indexer.bench",
        "import models.evaluate, models.bench, models.thresholds, models.quality",
        "import models.datasets.synthetic, models.datasets.compose",
        "from models.detector import OnnxDetector; import numpy; "
        "OnnxDetector().detect([numpy.zeros((64, 64, 3), 'uint8')])",
    ],
)
def test_what_serves_runs_without_torch(code):
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH.format(code=code)], check=True)


def test_models_need_no_web_and_no_gallery():
    above = "{'fastapi', 'sqlalchemy', 'faiss'}"
    code = f"import models.evaluate, sys; assert not {above} & {{*sys.modules}}"

    subprocess.run([sys.executable, "-c", code], check=True)
