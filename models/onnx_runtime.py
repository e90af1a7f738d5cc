"""ONNX Runtime, told before it starts not to report to its makers, as it would by default."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
