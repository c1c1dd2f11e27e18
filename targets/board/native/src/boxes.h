// Boxes of detectors.
#ifndef TILEWRIGHT_BOXES_H_
#define TILEWRIGHT_BOXES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tilewright::runtime {

struct Box {
  float x1, y1, x2, y2;

  // Corners in order, whichever way they were given.
  Box Ordered() const { return {std::min(x1, x2), std::min(y1, y2), std::max(x1, x2), std::max(y1, y2)}; }
  float Area() const { return (x2 - x1) * (y2 - y1); }
};

// Whether intersection / union is above the threshold; boxes of no area overlap nothing. As in ONNX
// NonMaxSuppression; boxes are ordered.
inline bool Overlaps(const Box& a, const Box& b, float threshold) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(width > 0) || !(height > 0)) return false;
  const float area_a = a.Area(), area_b = b.Area();
  if (!(area_a > 0) || !(area_b > 0)) return false;
  const float both = width * height;
  return both / (area_a + area_b - both) > threshold;
}

// Walks through candidates in order and keeps those that overlap no kept one; at most `most`.
inline std::vector<std::int64_t> Suppress(const std::vector<Box>& boxes, const std::vector<std::int64_t>& candidates,
                                          float threshold, std::size_t most) {
  std::vector<std::int64_t> kept;
  for (std::int64_t c : candidates) {
    if (kept.size() >= most) break;
    const Box& box = boxes[static_cast<std::size_t>(c)];
    const bool clash = std::any_of(kept.begin(), kept.end(), [&](std::int64_t k) {
      return Overlaps(box, boxes[static_cast<std::size_t>(k)], threshold);
    });
    if (!clash) kept.push_back(c);
  }
  return kept;
}

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_BOXES_H_
