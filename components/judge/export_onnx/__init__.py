"""The `export_onnx` component."""
