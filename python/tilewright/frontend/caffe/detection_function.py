"""`tilewright.DetectionOutput`: SSD's last layer as an ONNX function with a body of standard operators.

ONNX Runtime runs the body; a compiler sees one node with attributes and may bring its own. What it has to do:

Inputs, float32: location (P * L * 4 values; L = 1 with share_location, else num_classes), confidence
(P * num_classes values), prior (1, 2, 4 P): corners (xmin, ymin, xmax, ymax), then variances. P = prior
boxes.

1. Decode each box. l = location, v = variance (1 if variance_encoded_in_target), p = prior corners,
   (pw, ph) and (px, py) = the prior's width and height, and centre.
   CORNER: corner i = p_i + v_i l_i.
   CORNER_SIZE: as CORNER, l_i first multiplied by pw (i = 0, 2) or ph (i = 1, 3).
   CENTER_SIZE: centre = (px + v0 l0 pw, py + v1 l1 ph), size = (pw exp(v2 l2), ph exp(v3 l3)),
   corners = centre -+ size / 2. Nothing is clipped to the image.
2. For each class but the background: candidates are the top_k (-1: all) highest confidences, a lower prior
   index first among equals, and of these only those with confidence > confidence_threshold. Walk through them
   in that order; keep a box unless its overlap with a kept box of the class is > nms_threshold. Overlap =
   intersection / union; 0 if either area is 0; corners given in reverse order are put in order first.
3. Order all kept boxes by falling confidence, among equals by rising class, then by rising prior index, and
   keep the first keep_top_k (-1: all).

Output: (1, 1, N, 7), a row = (0, class, confidence, xmin, ymin, xmax, ymax). Without any detection N is 1 and
the row is (0, -1, -1, -1, -1, -1, -1), as in Caffe. Caffe groups the rows by class; the set is the same.
"""

from __future__ import annotations

import onnx
from onnx import parser

DOMAIN = "tilewright"
NAME = "DetectionOutput"

ATTRIBUTES = (
    "num_classes",
    "share_location",
    "background_label_id",
    "nms_threshold",
    "top_k",
    "keep_top_k",
    "confidence_threshold",
    "code_type",
    "variance_encoded_in_target",
)

# share_location is not read: the number of boxes for each prior says the same.
_BODY = """
<domain: "tilewright", opset_import: ["": 21]>
DetectionOutput <num_classes, share_location, background_label_id, nms_threshold, top_k, keep_top_k,
    confidence_threshold, code_type, variance_encoded_in_target> (location, confidence, prior) => (detections)
{
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    two = Constant <value_ints: ints = [2]> ()
    minus = Constant <value_ints: ints = [-1]> ()
    zero_scalar = Constant <value_int: int = 0> ()
    one_scalar = Constant <value_int: int = 1> ()
    one_float = Constant <value_float: float = 1.0> ()
    half = Constant <value_float: float = 0.5> ()
    classes = Constant <value_int: int = @num_classes> ()
    background = Constant <value_int: int = @background_label_id> ()
    top = Constant <value_int: int = @top_k> ()
    keep = Constant <value_int: int = @keep_top_k> ()
    overlap = Constant <value_float: float = @nms_threshold> ()
    threshold = Constant <value_float: float = @confidence_threshold> ()
    code = Constant <value_string: string = @code_type> ()
    encoded = Constant <value_int: int = @variance_encoded_in_target> ()

    prior_shape = Constant <value_ints: ints = [2, -1, 1, 4]> ()
    prior_rows = Reshape (prior, prior_shape)
    prior_boxes = Gather <axis: int = 0> (prior_rows, zero_scalar)
    given_variance = Gather <axis: int = 0> (prior_rows, one_scalar)
    is_encoded = Equal (encoded, one_scalar)
    variance = Where (is_encoded, one_float, given_variance)
    count = Shape <start: int = 1, end: int = 2> (prior_rows)
    location_tail = Constant <value_ints: ints = [-1, 4]> ()
    location_shape = Concat <axis: int = 0> (count, location_tail)
    location_rows = Reshape (location, location_shape)
    delta = Mul (location_rows, variance)

    prior_low, prior_high = Split <axis: int = 2, num_outputs: int = 2> (prior_boxes)
    prior_size = Sub (prior_high, prior_low)
    prior_sum = Add (prior_high, prior_low)
    prior_centre = Mul (prior_sum, half)
    delta_low, delta_high = Split <axis: int = 2, num_outputs: int = 2> (delta)
    shift = Mul (delta_low, prior_size)
    centre = Add (prior_centre, shift)
    growth = Exp (delta_high)
    size = Mul (growth, prior_size)
    half_size = Mul (size, half)
    centre_low = Sub (centre, half_size)
    centre_high = Add (centre, half_size)
    centre_boxes = Concat <axis: int = 2> (centre_low, centre_high)
    corner_boxes = Add (prior_boxes, delta)
    prior_sizes = Concat <axis: int = 2> (prior_size, prior_size)
    sized_delta = Mul (delta, prior_sizes)
    sized_boxes = Add (prior_boxes, sized_delta)
    centre_name = Constant <value_string: string = "CENTER_SIZE"> ()
    sized_name = Constant <value_string: string = "CORNER_SIZE"> ()
    is_centre = Equal (code, centre_name)
    is_sized = Equal (code, sized_name)
    corner_or_sized = Where (is_sized, sized_boxes, corner_boxes)
    boxes_by_prior = Where (is_centre, centre_boxes, corner_or_sized)
    boxes_by_location = Transpose <perm: ints = [1, 0, 2]> (boxes_by_prior)

    every_class = Range (zero_scalar, classes, one_scalar)
    is_background = Equal (every_class, background)
    is_object = Not (is_background)
    object_classes = Compress <axis: int = 0> (every_class, is_object)
    scores_tail = Constant <value_ints: ints = [-1]> ()
    scores_shape = Concat <axis: int = 0> (count, scores_tail)
    scores_by_prior = Reshape (confidence, scores_shape)
    scores_by_class = Transpose <perm: ints = [1, 0]> (scores_by_prior)
    scores = Gather <axis: int = 0> (scores_by_class, object_classes)
    count_scalar = Squeeze (count, zero)
    all_candidates = Less (top, zero_scalar)
    wanted_candidates = Where (all_candidates, count_scalar, top)
    candidate_count = Min (wanted_candidates, count_scalar)
    candidate_k = Unsqueeze (candidate_count, zero)
    candidate_scores, candidate_priors = TopK <axis: int = 1> (scores, candidate_k)

    location_classes = Shape <start: int = 0, end: int = 1> (boxes_by_location)
    last_location = Sub (location_classes, one)
    location_index = Min (object_classes, last_location)
    class_boxes = Gather <axis: int = 0> (boxes_by_location, location_index)
    box_index = Unsqueeze (candidate_priors, two)
    box_repeats = Constant <value_ints: ints = [1, 1, 4]> ()
    box_indices = Tile (box_index, box_repeats)
    candidate_boxes = GatherElements <axis: int = 1> (class_boxes, box_indices)
    nms_scores = Unsqueeze (candidate_scores, one)
    selected = NonMaxSuppression (candidate_boxes, nms_scores, candidate_k, overlap, threshold)

    column_class = Gather <axis: int = 1> (selected, zero_scalar)
    two_scalar = Constant <value_int: int = 2> ()
    column_rank = Gather <axis: int = 1> (selected, two_scalar)
    pair_class = Unsqueeze (column_class, one)
    pair_rank = Unsqueeze (column_rank, one)
    pairs = Concat <axis: int = 1> (pair_class, pair_rank)
    kept_scores = GatherND (candidate_scores, pairs)
    kept_boxes = GatherND (candidate_boxes, pairs)
    kept_classes = Gather <axis: int = 0> (object_classes, column_class)

    kept_count = Shape (kept_scores)
    keep_all = Less (keep, zero_scalar)
    keep_wanted = Where (keep_all, kept_count, keep)
    final_count = Min (keep_wanted, kept_count)
    final_scores, order = TopK <axis: int = 0> (kept_scores, final_count)
    final_boxes = Gather <axis: int = 0> (kept_boxes, order)
    final_classes = Gather <axis: int = 0> (kept_classes, order)
    class_values = Cast <to: int = 1> (final_classes)
    class_column = Unsqueeze (class_values, one)
    score_column = Unsqueeze (final_scores, one)
    image_column = Sub (score_column, score_column)
    rows = Concat <axis: int = 1> (image_column, class_column, score_column, final_boxes)
    nothing_values = Constant <value_floats: floats = [0.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]> ()
    nothing = Unsqueeze (nothing_values, zero)
    padded = Concat <axis: int = 0> (rows, nothing)
    row_count = Max (final_count, one)
    result = Slice (padded, zero, row_count, zero)
    leading = Constant <value_ints: ints = [0, 1]> ()
    detections = Unsqueeze (result, leading)
}
"""


def detection_function() -> onnx.FunctionProto:
    """The function, to be put into `ModelProto.functions`."""
    return parser.parse_function(_BODY)
