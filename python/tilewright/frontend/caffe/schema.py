"""The fields of Caffe's messages that may stand in a prototxt, as one table.

Names, types and defaults are those of `caffe.proto` of BVLC Caffe, joined with the fields that the SSD fork,
MobileNet's depthwise convolution, ShuffleNet and Intel's and NVIDIA's forks added. A text file names its
fields, so the forks' clashing field numbers do not matter here; binary files are read with the few numbers
that all forks share (`weights.py`).

A row is `name:type`; `*` marks a repeated field, `=` a default (otherwise 0, false, ""). Types: `int` (64
bit), `uint` (32 bit), `float`, `bool`, `str`, `@Enum`, a message name, or `any`: known and never looked into,
because it serves training only or picks an implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

ENUMS: dict[str, dict[str, int]] = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "Pool": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "Round": {"CEIL": 0, "FLOOR": 1},
    "Region": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "Eltwise": {"PROD": 0, "SUM": 1, "MAX": 2},
    "Reduction": {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4},
    "Code": {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3},
}
"""Enumerations: word -> number; a file may hold either."""

_TABLE = """
NetParameter
    name:str input:str* input_shape:BlobShape* input_dim:int* force_backward:any state:NetState debug_info:any
    layer:LayerParameter* engine:any default_forward_type:any default_backward_type:any
    default_forward_math:any default_backward_math:any
NetState
    phase:@Phase=TEST level:int stage:str*
NetStateRule
    phase:@Phase min_level:int max_level:int stage:str* not_stage:str*
BlobShape
    dim:int*
ParamSpec
    name:str share_mode:any lr_mult:any decay_mult:any
LayerParameter
    name:str type:str bottom:str* top:str* phase:any loss_weight:any* param:ParamSpec* blobs:any*
    propagate_down:any* include:NetStateRule* exclude:NetStateRule* engine:any freeze:any
    transform_param:TransformationParameter loss_param:any accuracy_param:any
    argmax_param:ArgMaxParameter batch_norm_param:BatchNormParameter bias_param:BiasParameter
    clip_param:ClipParameter concat_param:ConcatParameter convolution_param:ConvolutionParameter
    crop_param:CropParameter data_param:DataParameter detection_output_param:DetectionOutputParameter
    dropout_param:DropoutParameter dummy_data_param:DummyDataParameter eltwise_param:EltwiseParameter
    elu_param:ELUParameter exp_param:ExpParameter flatten_param:FlattenParameter
    hdf5_data_param:any hdf5_output_param:any hinge_loss_param:any image_data_param:ImageDataParameter
    infogain_loss_param:any inner_product_param:InnerProductParameter input_param:InputParameter
    interp_param:InterpParameter log_param:LogParameter lrn_param:LRNParameter
    memory_data_param:MemoryDataParameter multibox_loss_param:any mvn_param:MVNParameter
    norm_param:NormalizeParameter permute_param:PermuteParameter pooling_param:PoolingParameter
    power_param:PowerParameter prelu_param:PReLUParameter prior_box_param:PriorBoxParameter python_param:any
    reduction_param:ReductionParameter relu_param:ReLUParameter reshape_param:ReshapeParameter
    scale_param:ScaleParameter shuffle_channel_param:ShuffleChannelParameter sigmoid_param:SigmoidParameter
    slice_param:SliceParameter softmax_param:SoftmaxParameter swish_param:SwishParameter
    tanh_param:TanHParameter threshold_param:ThresholdParameter tile_param:TileParameter
    upsample_param:UpsampleParameter window_data_param:any annotated_data_param:any contrastive_loss_param:any
TransformationParameter
    scale:any mirror:any crop_size:uint crop_h:uint crop_w:uint mean_file:any mean_value:float*
    force_color:bool force_gray:bool resize_param:any noise_param:any distort_param:any expand_param:any
    emit_constraint:any
ArgMaxParameter
    out_max_val:bool top_k:uint=1 axis:int
BatchNormParameter
    use_global_stats:bool moving_average_fraction:any eps:float=1e-5 engine:any scale_filler:any
    bias_filler:any
BiasParameter
    axis:int=1 num_axes:int=1 filler:any
ClipParameter
    min:float max:float
ConcatParameter
    axis:int=1 concat_dim:uint=1 engine:any
ConvolutionParameter
    num_output:uint bias_term:bool=true pad:uint* kernel_size:uint* stride:uint* dilation:uint* pad_h:uint
    pad_w:uint kernel_h:uint kernel_w:uint stride_h:uint stride_w:uint group:uint=1 weight_filler:any
    bias_filler:any engine:any axis:int=1 force_nd_im2col:any
CropParameter
    axis:int=2 offset:uint*
DataParameter
    source:any backend:any batch_size:any rand_skip:any prefetch:any force_encoded_color:bool scale:any
    mean_file:any crop_size:uint mirror:any
DetectionOutputParameter
    num_classes:uint share_location:bool=true background_label_id:int nms_param:NonMaximumSuppressionParameter
    save_output_param:any code_type:@Code=CORNER variance_encoded_in_target:bool keep_top_k:int=-1
    confidence_threshold:float visualize:any visualize_threshold:any save_file:any
NonMaximumSuppressionParameter
    nms_threshold:float=0.3 top_k:int=-1 eta:float=1
DropoutParameter
    dropout_ratio:float=0.5 scale_train:bool=true engine:any
DummyDataParameter
    data_filler:any* shape:BlobShape* num:uint* channels:uint* height:uint* width:uint*
EltwiseParameter
    operation:@Eltwise=SUM coeff:float* stable_prod_grad:any engine:any
ELUParameter
    alpha:float=1
ExpParameter
    base:float=-1 scale:float=1 shift:float=0
FlattenParameter
    axis:int=1 end_axis:int=-1
ImageDataParameter
    source:any batch_size:any rand_skip:any shuffle:any new_height:uint new_width:uint is_color:bool=true
    root_folder:any scale:any mean_file:any crop_size:uint mirror:any
InnerProductParameter
    num_output:uint bias_term:bool=true weight_filler:any bias_filler:any axis:int=1 transpose:bool engine:any
InputParameter
    shape:BlobShape*
InterpParameter
    height:int width:int zoom_factor:int=1 shrink_factor:int=1 pad_beg:int pad_end:int
LogParameter
    base:float=-1 scale:float=1 shift:float=0
LRNParameter
    local_size:uint=5 alpha:float=1 beta:float=0.75 norm_region:@Region=ACROSS_CHANNELS k:float=1 engine:any
MemoryDataParameter
    batch_size:uint channels:uint height:uint width:uint
MVNParameter
    normalize_variance:bool=true across_channels:bool eps:float=1e-9
NormalizeParameter
    across_spatial:bool=true scale_filler:any channel_shared:bool=true eps:float=1e-10
PermuteParameter
    order:uint*
PoolingParameter
    pool:@Pool=MAX pad:uint* kernel_size:uint* stride:uint* pad_h:uint pad_w:uint kernel_h:uint kernel_w:uint
    stride_h:uint stride_w:uint engine:any global_pooling:bool round_mode:@Round=CEIL ceil_mode:bool=true
PowerParameter
    power:float=1 scale:float=1 shift:float=0
PReLUParameter
    filler:any channel_shared:bool
PriorBoxParameter
    min_size:float* max_size:float* aspect_ratio:float* flip:bool=true clip:bool variance:float* img_size:uint
    img_h:uint img_w:uint step:float step_h:float step_w:float offset:float=0.5
ReductionParameter
    operation:@Reduction=SUM axis:int coeff:float=1
ReLUParameter
    negative_slope:float engine:any
ReshapeParameter
    shape:BlobShape axis:int num_axes:int=-1
ScaleParameter
    axis:int=1 num_axes:int=1 filler:any bias_term:bool bias_filler:any
ShuffleChannelParameter
    group:uint=1
SigmoidParameter
    engine:any
SliceParameter
    axis:int=1 slice_point:uint* slice_dim:uint=1
SoftmaxParameter
    engine:any axis:int=1
SwishParameter
    beta:float=1
TanHParameter
    engine:any
ThresholdParameter
    threshold:float
TileParameter
    axis:int=1 tiles:int
UpsampleParameter
    scale:uint
"""


@dataclass(frozen=True)
class FieldType:
    """A row of the table. `kind` is one of int, uint, float, bool, str, any, enum, message."""

    name: str
    kind: str
    target: str
    repeated: bool
    default: int | float | bool | str


_ZERO: dict[str, int | float | bool | str] = {"int": 0, "uint": 0, "float": 0.0, "bool": False, "str": ""}


def _default(kind: str, target: str, text: str) -> int | float | bool | str:
    if kind == "enum":
        return text or next(iter(ENUMS[target]))
    if not text:
        return _ZERO.get(kind, "")
    if kind == "bool":
        return text == "true"
    return float(text) if kind == "float" else int(text)


def _row(text: str) -> FieldType:
    name, _, rest = text.partition(":")
    rest, _, default = rest.partition("=")
    repeated, target = rest.endswith("*"), rest.rstrip("*")
    if target.startswith("@"):
        kind, target = "enum", target[1:]
    elif target in _ZERO or target == "any":
        kind = target
    else:
        kind = "message"
    return FieldType(name, kind, target, repeated, _default(kind, target, default))


def _load() -> dict[str, dict[str, FieldType]]:
    messages: dict[str, dict[str, FieldType]] = {}
    fields: dict[str, FieldType] = {}
    for line in _TABLE.strip().splitlines():
        if line.startswith(" "):
            fields.update((row.name, row) for row in map(_row, line.split()))
        else:
            fields = messages[line.strip()] = {}
    return messages


MESSAGES = _load()
"""Message name -> field name -> type."""
