"""Import: ONNX as it is, Caffe converted to ONNX, and the rewrites that precede quantisation."""
