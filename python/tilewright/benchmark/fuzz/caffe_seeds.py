"""Prototxt texts in all of Caffe's forms with all layers that are taken: what damaged ones are made from."""

from __future__ import annotations

_V2 = """name: "net"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 6 dim: 12 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_h: 3 kernel_w: 1 pad_h: 1 stride: 2 dilation: 1 group: 2 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 1e-05 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true axis: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "lrn" type: "LRN" bottom: "conv" top: "lrn" lrn_param { local_size: 3 alpha: 5e-05 beta: 0.75 } }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" dropout_param { dropout_ratio: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" softmax_param { axis: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include { phase: TRAIN } }
"""
_LAYOUTS = """input: "x" input_shape { dim: 1 dim: 8 dim: 6 dim: 6 }
layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { axis: 1 slice_point: 4 } }
layer { name: "d" type: "Deconvolution" bottom: "a" top: "d"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4 bias_term: false } }
layer { name: "u" type: "Interp" bottom: "b" top: "u" interp_param { height: 12 width: 12 } }
layer { name: "e" type: "Eltwise" bottom: "d" bottom: "u" top: "e"
  eltwise_param { operation: SUM coeff: 1 coeff: -0.5 } }
layer { name: "p" type: "PReLU" bottom: "e" top: "p" prelu_param { channel_shared: false } }
layer { name: "c" type: "Concat" bottom: "p" bottom: "u" top: "c" concat_param { axis: 1 } }
layer { name: "h" type: "ShuffleChannel" bottom: "c" top: "h" shuffle_channel_param { group: 2 } }
layer { name: "t" type: "Permute" bottom: "h" top: "t" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "f" type: "Flatten" bottom: "t" top: "f" flatten_param { axis: 1 } }
layer { name: "r" type: "Reshape" bottom: "f" top: "r" reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }
layer { name: "m" type: "MVN" bottom: "h" top: "m" mvn_param { normalize_variance: true eps: 1e-9 } }
layer { name: "n" type: "Normalize" bottom: "m" top: "n" norm_param { across_spatial: false channel_shared: false } }
layer { name: "o" type: "Crop" bottom: "n" bottom: "x" top: "o" crop_param { axis: 2 offset: 1 } }
layer { name: "w" type: "Power" bottom: "o" top: "w" power_param { power: 2 scale: 0.5 shift: 1 } }
layer { name: "g" type: "ArgMax" bottom: "w" top: "g" argmax_param { axis: 1 top_k: 1 } }
layer { name: "k" type: "Tile" bottom: "w" top: "k" tile_param { axis: 1 tiles: 2 } }
layer { name: "v" type: "Reduction" bottom: "k" top: "v" reduction_param { operation: MEAN axis: 1 } }
"""
_SSD = """input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "l" type: "Convolution" bottom: "x" top: "l"
  convolution_param { num_output: 16 kernel_size: 3 stride: 4 pad: 1 } }
layer { name: "lp" type: "Permute" bottom: "l" top: "lp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "lf" type: "Flatten" bottom: "lp" top: "lf" }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 12 kernel_size: 3 stride: 4 pad: 1 } }
layer { name: "cp" type: "Permute" bottom: "c" top: "cp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "cf" type: "Flatten" bottom: "cp" top: "cf" }
layer { name: "b" type: "PriorBox" bottom: "c" bottom: "x" top: "b"
  prior_box_param { min_size: 2 max_size: 4 aspect_ratio: 2 flip: true clip: false variance: 0.1 offset: 0.5 } }
layer { name: "det" type: "DetectionOutput" bottom: "lf" bottom: "cf" bottom: "b" top: "det"
  detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE
    nms_param { nms_threshold: 0.45 top_k: 10 } keep_top_k: 5 confidence_threshold: 0.25 } }
"""
_V1 = """name: "v1" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "ip" type: INNER_PRODUCT bottom: "conv1" top: "ip" inner_product_param { num_output: 3 } }
layers { name: "prob" type: SOFTMAX bottom: "ip" top: "prob" }
"""
_V0 = """name: "v0" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 stride: 2 pad: 1 } bottom: "data" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: MAX kernelsize: 2 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "ip" type: "innerproduct" num_output: 3 } bottom: "pool1" top: "ip" }
layers { layer { name: "prob" type: "softmax" } bottom: "ip" top: "prob" }
"""
PROTOTXTS = tuple(text.encode() for text in (_V2, _LAYOUTS, _SSD, _V1, _V0))
"""One a form; the first one's weights are `caffemodel` seeds."""
