// MATRIX: everything that can be wrong with an instruction, found before a sum changes.
#include <algorithm>

#include "matrix_unit.h"

namespace tilewright {
namespace {

// Map coordinates of a counter and a tap, as offsets of `pitch` each; `wrap` 0: never.
std::vector<std::int64_t> Axis(std::uint32_t n, std::uint32_t taps, std::uint32_t stride,
                               std::uint32_t dilation, std::int32_t offset, std::uint32_t size,
                               int displacement, std::uint32_t wrap, std::uint32_t pitch) {
  std::vector<std::int64_t> result;
  result.reserve(std::size_t{n} * taps);
  for (std::uint32_t tap = 0; tap < taps; ++tap)
    for (std::uint32_t at = 0; at < n; ++at) {
      const std::int64_t p = std::int64_t{at} * stride + std::int64_t{tap} * dilation + offset;
      const std::int64_t read = p + displacement;
      const bool inside = p >= 0 && p < size && read >= 0 && read < size;
      result.push_back(inside ? (wrap ? read % wrap : read) * pitch : -1);
    }
  return result;
}

std::vector<std::int64_t> Inside(const std::vector<std::int64_t>& offsets) {
  std::vector<std::int64_t> result;
  for (std::int64_t offset : offsets)
    if (offset >= 0) result.push_back(offset);
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

}  // namespace

MatrixUnit::Offsets MatrixUnit::Rows(int dy) const {
  return Axis(i_.n_y, i_.n_ky, i_.stride_y, i_.dilation_y, i_.offset_y, i_.height, dy, i_.ring, i_.act_row);
}

MatrixUnit::Offsets MatrixUnit::Columns(int dx) const {
  return Axis(i_.n_x, i_.n_kx, i_.stride_x, i_.dilation_x, i_.offset_x, i_.width, dx, 0, i_.act_x);
}

const std::vector<Displacement>& MatrixUnit::Lanes(std::int64_t block) const {
  return m_.disp_[static_cast<std::size_t>(i_.disp_base + block)];
}

bool MatrixUnit::CheckOperands() {
  const std::uint32_t pad_max = (1u << m_.o_.inp_bits) - 1;
  if (i_.pad > pad_max)
    return m_.Fail(FaultKind::kOperand, "pad=%u does not fit the overlay's inp_bits=%d (0..%u)", i_.pad,
                   m_.o_.inp_bits, pad_max);
  return true;
}

bool MatrixUnit::CheckAcc() {
  auto last = [](std::uint32_t n, std::uint32_t stride) { return std::int64_t{n - 1} * stride; };
  const std::int64_t vectors = m_.o_.acc_vectors;
  const std::int64_t end =
      i_.acc_base + last(i_.n_oc, i_.acc_oc) + last(i_.n_y, i_.acc_y) + last(i_.n_x, i_.acc_x);
  if (end >= vectors)
    return m_.Fail(FaultKind::kAddress, "writes vector %lld of ACC, but the last is %lld",
                   static_cast<long long>(end), static_cast<long long>(vectors) - 1);
  const std::int64_t sums = std::int64_t{i_.n_oc} * i_.n_y * i_.n_x;
  if (sums > vectors)
    return m_.Fail(FaultKind::kOverlap, "n_oc*n_y*n_x = %lld sums need a vector each, but ACC has %lld",
                   static_cast<long long>(sums), static_cast<long long>(vectors));
  // Numbers go on from instruction to instruction, so that only what is above `before` is of this one.
  std::vector<std::uint32_t>& seen = m_.acc_seen_;
  if (seen.empty() || m_.acc_seen_last_ > UINT32_MAX - static_cast<std::uint32_t>(sums)) {
    seen.assign(static_cast<std::size_t>(vectors), 0);
    m_.acc_seen_last_ = 0;
  }
  const std::uint32_t before = m_.acc_seen_last_;
  sums_.reserve(static_cast<std::size_t>(sums));
  for (std::uint32_t oc = 0; oc < i_.n_oc; ++oc)
    for (std::uint32_t y = 0; y < i_.n_y; ++y)
      for (std::uint32_t x = 0; x < i_.n_x; ++x) {
        const std::size_t v =
            i_.acc_base + std::size_t{oc} * i_.acc_oc + std::size_t{y} * i_.acc_y + std::size_t{x} * i_.acc_x;
        if (seen[v] > before) {
          const std::uint32_t other = seen[v] - before - 1, in_map = i_.n_y * i_.n_x;
          return m_.Fail(FaultKind::kOverlap,
                         "(oc, y, x) = (%u, %u, %u) and (%u, %u, %u) meet at vector %zu of ACC",
                         other / in_map, other % in_map / i_.n_x, other % i_.n_x, oc, y, x, v);
        }
        seen[v] = ++m_.acc_seen_last_;
        sums_.push_back(v);
      }
  return true;
}

// The only check that changes something, so the last: marks the vectors as written.
bool MatrixUnit::TakeAcc() {
  bool halves[2] = {false, false};
  const std::size_t middle = m_.acc_written_.size() / 2;
  for (std::size_t v : sums_) halves[v >= middle] = true;
  if (!i_.fresh) {
    const std::vector<std::size_t>::iterator missing =
        std::find_if(sums_.begin(), sums_.end(), [&](std::size_t v) { return !m_.acc_written_[v]; });
    if (missing != sums_.end())
      return m_.Fail(FaultKind::kUninitialised, "reads vector %zu of ACC, which nothing has written",
                     *missing);
  }
  for (std::size_t half = 0; half < 2; ++half)
    if (halves[half] && !m_.Write(&m_.acc_log_, half, 1)) return false;
  for (std::size_t v : sums_) m_.acc_written_[v] = 1;
  return true;
}

bool MatrixUnit::CheckWgtRange() {
  auto last = [](std::uint32_t n, std::uint32_t stride) { return std::int64_t{n - 1} * stride; };
  return m_.CheckLast(m_.wgt_log_, "reads",
                      i_.wgt_base + last(i_.n_oc, i_.wgt_oc) + last(i_.n_ic, i_.wgt_ic) +
                          last(i_.n_ky, i_.wgt_ky) + last(i_.n_kx, i_.wgt_kx));
}

bool MatrixUnit::CheckWgt() {
  auto offsets = [](std::uint32_t n, std::uint32_t stride) {
    RunSet::Offsets result;
    for (std::uint32_t k = 0; k < n && (k == 0 || stride != 0); ++k)
      result.push_back(std::int64_t{k} * stride);
    return result;
  };
  // A run set takes three lists; the first is made of two.
  RunSet::Offsets outer;
  for (std::int64_t oc : offsets(i_.n_oc, i_.wgt_oc))
    for (std::int64_t ic : offsets(i_.n_ic, i_.wgt_ic)) outer.push_back(oc + ic);
  const RunSet tiles(i_.wgt_base, std::move(outer), offsets(i_.n_ky, i_.wgt_ky), offsets(i_.n_kx, i_.wgt_kx));
  return tiles.ForEach(
      [&](std::size_t first, std::size_t count) { return m_.Read(&m_.wgt_log_, first, count); });
}

bool MatrixUnit::CheckBox(const Offsets& rows, const Offsets& columns,
                          const std::vector<std::int64_t>& blocks) {
  Offsets r = Inside(rows), c = Inside(columns), b;
  if (r.empty() || c.empty()) return true;  // only padding is read
  for (std::int64_t block : blocks) b.push_back(block * i_.act_ic);
  const RunSet half_words(i_.act_base, std::move(r), std::move(c), std::move(b));
  if (!m_.CheckLast(m_.act_log_, "reads", half_words.last())) return false;
  return half_words.ForEach(
      [&](std::size_t first, std::size_t count) { return m_.Read(&m_.act_log_, first, count); });
}

bool MatrixUnit::CheckAct() {
  for (std::uint32_t oc = 0; oc < i_.n_oc; ++oc)
    for (std::uint32_t ic = 0; ic < i_.n_ic; ++ic)
      blocks_.push_back(i_.ic_first + std::int64_t{oc} * i_.ic_stride_o + ic);
  std::sort(blocks_.begin(), blocks_.end());
  blocks_.erase(std::unique(blocks_.begin(), blocks_.end()), blocks_.end());
  if (!i_.displaced) {
    rows_.push_back(Rows(0));
    columns_.push_back(Columns(0));
    return CheckBox(rows_[0], columns_[0], blocks_);
  }
  if (!m_.CheckLast(m_.disp_log_, "reads", i_.disp_base + blocks_.back())) return false;
  for (std::int64_t block : blocks_)
    if (!m_.Read(&m_.disp_log_, static_cast<std::size_t>(i_.disp_base + block), 1)) return false;
  for (int d = least(); d <= m_.o_.displacement_max; ++d) {
    rows_.push_back(Rows(d));
    columns_.push_back(Columns(d));
  }
  for (int dy = least(); dy <= m_.o_.displacement_max; ++dy)
    for (int dx = least(); dx <= m_.o_.displacement_max; ++dx) {
      std::vector<std::int64_t> with;  // blocks that have a lane displaced so
      for (std::int64_t block : blocks_)
        for (const Displacement& d : Lanes(block))
          if (d.dy == dy && d.dx == dx) with.push_back(block);
      if (!with.empty() && !CheckBox(rows_[static_cast<std::size_t>(dy - least())],
                                     columns_[static_cast<std::size_t>(dx - least())], with))
        return false;
    }
  return true;
}

}  // namespace tilewright
