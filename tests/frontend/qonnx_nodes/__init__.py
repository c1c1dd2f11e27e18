"""Tests of the import of QONNX's quantisers."""
