"""Tilewright: trained ONNX and Caffe networks to a VTA-like accelerator on Xilinx Zynq."""
