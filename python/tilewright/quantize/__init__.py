"""Post-training quantisation: ranges from ONNX Runtime's calibrators, result a QDQ ONNX model."""
