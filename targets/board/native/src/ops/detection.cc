// Detectors' last steps: ONNX NonMaxSuppression and Caffe SSD's DetectionOutput.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "../boxes.h"
#include "../kernels.h"

namespace tilewright::runtime::ops {
namespace {

// Indices with score(i) > threshold by falling score, a lower index first among equals; at most `most`. NaN is
// never above a threshold.
template <typename Score>
std::vector<std::int64_t> Candidates(std::int64_t count, std::int64_t most, float threshold, Score score) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < count; ++i) {
    if (score(i) > threshold) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return score(a) > score(b); });
  if (most >= 0 && static_cast<std::int64_t>(order.size()) > most) order.resize(static_cast<std::size_t>(most));
  return order;
}

struct Detection {
  float score;
  std::int64_t label, prior;
  Box box;
};

// One box of the network relative to a prior; rules in frontend/caffe/detection_function.py.
Box Decode(std::int64_t code, const float* prior, const float* variance, const float* l) {
  const float pw = prior[2] - prior[0], ph = prior[3] - prior[1];
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = l[i] * (variance == nullptr ? 1.0f : variance[i]);
  if (code == 2) {
    const float cx = (prior[2] + prior[0]) * 0.5f + d[0] * pw, cy = (prior[3] + prior[1]) * 0.5f + d[1] * ph;
    const float hw = std::exp(d[2]) * pw * 0.5f, hh = std::exp(d[3]) * ph * 0.5f;
    return {cx - hw, cy - hh, cx + hw, cy + hh};
  }
  const float sx = code == 3 ? pw : 1.0f, sy = code == 3 ? ph : 1.0f;
  return {prior[0] + d[0] * sx, prior[1] + d[1] * sy, prior[2] + d[2] * sx, prior[3] + d[3] * sy};
}

}  // namespace

void op_non_max_suppression(Call& call) {
  const Tensor &boxes = *call.in[0], &scores = *call.in[1];
  Require(boxes.rank() == 3 && scores.rank() == 3 && boxes.shape()[2] == 4 && boxes.shape()[0] == scores.shape()[0] &&
              boxes.shape()[1] == scores.shape()[2],
          "expected boxes (B, N, 4) and scores (B, C, N), found ", ShapeText(boxes.shape()), " and ",
          ShapeText(scores.shape()));
  const float *box = boxes.data<float>(), *score = scores.data<float>();
  const std::int64_t count = boxes.shape()[1], classes = scores.shape()[1];
  const auto iou = static_cast<float>(call.Number("iou_threshold"));
  const auto threshold = static_cast<float>(call.Number("score_threshold"));
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(call.Integer("max_boxes"), 0));
  const bool center = call.Integer("center") != 0;
  std::vector<std::int64_t> rows;
  for (std::int64_t b = 0; b < boxes.shape()[0]; ++b) {
    std::vector<Box> ordered;
    for (std::int64_t i = 0; i < count; ++i) {
      const float* v = box + (b * count + i) * 4;
      ordered.push_back(center ? Box{v[0] - v[2] / 2, v[1] - v[3] / 2, v[0] + v[2] / 2, v[1] + v[3] / 2}
                               : Box{v[1], v[0], v[3], v[2]}.Ordered());
    }
    for (std::int64_t c = 0; c < classes; ++c) {
      const float* s = score + (b * classes + c) * count;
      const auto candidates = Candidates(count, -1, threshold, [s](std::int64_t i) { return s[i]; });
      for (std::int64_t i : Suppress(ordered, candidates, iou, most)) rows.insert(rows.end(), {b, c, i});
    }
  }
  Tensor out(DType::kInt64, {static_cast<std::int64_t>(rows.size() / 3), 3});
  std::copy(rows.begin(), rows.end(), out.data<std::int64_t>());
  call.out[0] = std::move(out);
}

void op_detection_output(Call& call) {
  const Tensor &location = *call.in[0], &confidence = *call.in[1], &prior = *call.in[2];
  const std::int64_t classes = call.Integer("num_classes"), background = call.Integer("background_label_id");
  const std::int64_t code = call.Integer("code_type"), keep = call.Integer("keep_top_k");
  const bool share = call.Integer("share_location") != 0, encoded = call.Integer("variance_encoded_in_target") != 0;
  const auto overlap = static_cast<float>(call.Number("nms_threshold"));
  const auto threshold = static_cast<float>(call.Number("confidence_threshold"));
  Require(prior.rank() == 3 && prior.shape()[0] == 1 && prior.shape()[1] == 2 && prior.shape()[2] % 4 == 0,
          "expected priors (1, 2, 4 P), found ", ShapeText(prior.shape()));
  Require(code >= 1 && code <= 3, "expected code_type 1, 2 or 3, found ", code);
  const std::int64_t count = prior.shape()[2] / 4;
  Require(classes >= 1 && classes <= static_cast<std::int64_t>(kMaxBytes), "num_classes ", classes);
  const std::int64_t locations = share ? 1 : classes;
  // Below 2^58: count is at most 2^26, classes at most 2^30.
  Require(location.size() == count * locations * 4 && confidence.size() == count * classes, "expected ",
          count * locations * 4, " locations and ", count * classes, " confidences, found ", location.size(), " and ",
          confidence.size());
  const float *l = location.data<float>(), *s = confidence.data<float>(), *p = prior.data<float>();
  std::vector<Detection> found;
  for (std::int64_t c = 0; c < classes && count > 0; ++c) {
    if (c == background) continue;
    const auto candidates = Candidates(count, call.Integer("top_k"), threshold,
                                       [&](std::int64_t i) { return s[i * classes + c]; });
    std::vector<Box> boxes(static_cast<std::size_t>(count)), ordered(boxes);
    for (std::int64_t i : candidates) {
      const auto n = static_cast<std::size_t>(i);
      boxes[n] = Decode(code, p + i * 4, encoded ? nullptr : p + (count + i) * 4,
                        l + (i * locations + (share ? 0 : c)) * 4);
      ordered[n] = boxes[n].Ordered();
    }
    for (std::int64_t i : Suppress(ordered, candidates, overlap, ordered.size())) {
      found.push_back({s[i * classes + c], c, i, boxes[static_cast<std::size_t>(i)]});
    }
  }
  std::sort(found.begin(), found.end(), [](const Detection& a, const Detection& b) {
    return std::make_tuple(-a.score, a.label, a.prior) < std::make_tuple(-b.score, b.label, b.prior);
  });
  if (keep >= 0 && static_cast<std::int64_t>(found.size()) > keep) found.resize(static_cast<std::size_t>(keep));
  if (found.empty()) found.push_back({-1, -1, 0, {-1, -1, -1, -1}});
  Tensor out(DType::kFloat32, {1, 1, static_cast<std::int64_t>(found.size()), 7});
  float* y = out.data<float>();
  for (const Detection& d : found) {
    for (float value : {0.0f, static_cast<float>(d.label), d.score, d.box.x1, d.box.y1, d.box.x2, d.box.y2}) *y++ = value;
  }
  call.out[0] = std::move(out);
}

}  // namespace tilewright::runtime::ops
