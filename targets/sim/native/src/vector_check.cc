// VECTOR: everything that can be wrong with an instruction, found before it writes.
#include <algorithm>

#include "vector_unit.h"

namespace tilewright {

bool VectorUnit::two_operands() const {
  const auto op = static_cast<isa::VectorOp>(i_.op);
  return op == isa::VectorOp::kScaledAdd || op == isa::VectorOp::kMultiply;
}

bool VectorUnit::from_acc() const { return static_cast<isa::Source>(i_.source) == isa::Source::kAcc; }

VectorUnit::Axis VectorUnit::MakeAxis(std::uint32_t n, std::uint32_t taps, std::uint32_t stride,
                                      std::uint32_t dilation, std::int32_t offset, std::uint32_t size) {
  Axis axis;
  axis.tap_used.assign(taps, 0);
  std::vector<std::uint8_t> any(n, 0);
  for (std::uint32_t tap = 0; tap < taps; ++tap)
    for (std::uint32_t k = 0; k < n; ++k) {
      const std::int64_t p = std::int64_t{k} * stride + std::int64_t{tap} * dilation + offset;
      const bool inside = p >= 0 && p < size;
      axis.at.push_back(inside ? p : -1);
      if (!inside) continue;
      axis.used.push_back(p);
      axis.tap_used[tap] = any[k] = 1;
    }
  std::sort(axis.used.begin(), axis.used.end());
  axis.used.erase(std::unique(axis.used.begin(), axis.used.end()), axis.used.end());
  const auto empty = std::find(any.begin(), any.end(), 0);
  if (empty != any.end()) axis.empty = empty - any.begin();
  return axis;
}

bool VectorUnit::CheckOperands() {
  if (from_acc() && i_.ring)
    return m_.Fail(FaultKind::kOperand, "ring=%u with source ACC, which has no rings", i_.ring);
  if (from_acc() && i_.in_planes)
    return m_.Fail(FaultKind::kOperand, "in_planes=%u with source ACC, which has no planes", i_.in_planes);
  if (m_.o_.inp_bits << i_.in_planes > 16)
    return m_.Fail(FaultKind::kOperand, "in_planes=%u of %d bits, a value has 16 at most", i_.in_planes,
                   m_.o_.inp_bits);
  if (m_.o_.inp_bits << i_.in2_planes > 16)
    return m_.Fail(FaultKind::kOperand, "in2_planes=%u of %d bits, a value has 16 at most", i_.in2_planes,
                   m_.o_.inp_bits);
  if (m_.o_.inp_bits << i_.out_planes > 16)
    return m_.Fail(FaultKind::kOperand, "out_planes=%u of %d bits, a result has 16 at most", i_.out_planes,
                   m_.o_.inp_bits);
  if (two_operands()) {
    const char* op =
        static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kMultiply ? "MULTIPLY" : "SCALED_ADD";
    if (from_acc())
      return m_.Fail(FaultKind::kOperand, "%s with source ACC, both operands must come from ACT", op);
    if (i_.kernel_y != 1 || i_.kernel_x != 1)
      return m_.Fail(FaultKind::kOperand, "%s with a %ux%u window, it must be 1x1", op, i_.kernel_y,
                     i_.kernel_x);
    if (i_.negative)
      return m_.Fail(FaultKind::kOperand,
                     "%s with negative=1, which needs the second set of parameters for itself", op);
  } else if (i_.in2_planes) {
    return m_.Fail(FaultKind::kOperand, "in2_planes=%u with %s, which has no second operand", i_.in2_planes,
                   isa::kVectorOpNames[i_.op]);
  }
  if (i_.lo > i_.hi) return m_.Fail(FaultKind::kOperand, "lo=%u is above hi=%u", i_.lo, i_.hi);
  if (i_.table && i_.hi > 255)
    return m_.Fail(FaultKind::kOperand, "hi=%u is beyond the table of 256 entries", i_.hi);
  const std::int64_t results = std::int64_t{i_.n_c} * i_.n_y * i_.n_x;
  if (results << i_.out_planes > m_.o_.act_half_words)
    return m_.Fail(FaultKind::kOverlap, "writes %lld half words, but ACT has %d",
                   static_cast<long long>(results << i_.out_planes), m_.o_.act_half_words);
  rows_ = MakeAxis(i_.n_y, i_.kernel_y, i_.stride_y, i_.dilation_y, i_.offset_y, i_.height);
  columns_ = MakeAxis(i_.n_x, i_.kernel_x, i_.stride_x, i_.dilation_x, i_.offset_x, i_.width);
  if (rows_.empty >= 0 || columns_.empty >= 0)
    return m_.Fail(FaultKind::kOperand, "the window of (y, x) = (%lld, %lld) has no tap inside the map %ux%u",
                   static_cast<long long>(columns_.empty >= 0 ? 0 : rows_.empty),
                   static_cast<long long>(rows_.empty == 0 || columns_.empty < 0 ? 0 : columns_.empty),
                   i_.height, i_.width);
  return true;
}

namespace {

RunSet::Offsets Multiples(std::uint32_t n, std::uint32_t pitch) {
  RunSet::Offsets result;
  for (std::uint32_t k = 0; k < n && (k == 0 || pitch != 0); ++k) result.push_back(std::int64_t{k} * pitch);
  return result;
}

RunSet::Offsets Scaled(const std::vector<std::int64_t>& values, std::uint32_t pitch) {
  RunSet::Offsets result;
  for (std::int64_t value : values) result.push_back(value * pitch);
  return result;
}

}  // namespace

bool VectorUnit::ReadHalfWords(std::int64_t base, std::uint32_t row, std::uint32_t column,
                               std::uint32_t channel) {
  RunSet::Offsets rows;
  for (std::int64_t r : rows_.used) rows.push_back(WrapRow(r) * row);
  const RunSet half_words(base, std::move(rows), Scaled(columns_.used, column), Multiples(i_.n_c, channel));
  if (!m_.CheckLast(m_.act_log_, "reads", half_words.last())) return false;
  return half_words.ForEach(
      [&](std::size_t first, std::size_t count) { return m_.Read(&m_.act_log_, first, count); });
}

bool VectorUnit::ReadAcc() {
  const std::uint32_t vectors_c = (i_.n_c - 1) / static_cast<std::uint32_t>(halves_) + 1;
  const RunSet vectors(i_.src_base, Scaled(rows_.used, i_.src_row), Scaled(columns_.used, i_.src_x),
                       Multiples(vectors_c, i_.src_c));
  const std::int64_t rows = m_.o_.acc_vectors;
  if (vectors.last() >= rows)
    return m_.Fail(FaultKind::kAddress, "reads vector %lld of ACC, but the last is %lld",
                   static_cast<long long>(vectors.last()), static_cast<long long>(rows) - 1);
  bool halves[2] = {false, false};
  const bool written = vectors.ForEach([&](std::size_t first, std::size_t count) {
    for (std::size_t v = first; v < first + count; ++v) {
      halves[v >= static_cast<std::size_t>(rows / 2)] = true;
      if (!m_.acc_written_[v])
        return m_.Fail(FaultKind::kUninitialised, "reads vector %zu of ACC, which nothing has written", v);
    }
    return true;
  });
  if (!written) return false;
  for (std::size_t half = 0; half < 2; ++half)
    if (halves[half] && !m_.Read(&m_.acc_log_, half, 1)) return false;
  return true;
}

bool VectorUnit::CheckReads() {
  if (from_acc()) return ReadAcc();
  if (!ReadHalfWords(i_.src_base, i_.src_row, i_.src_x, i_.src_c)) return false;
  for (std::int64_t plane = 1; plane < 1 << i_.in_planes; ++plane)
    if (!ReadHalfWords(i_.src_base + plane * i_.src_plane, i_.src_row, i_.src_x, i_.src_c)) return false;
  if (!two_operands()) return true;
  for (std::int64_t plane = 0; plane < 1 << i_.in2_planes; ++plane)
    if (!ReadHalfWords(i_.src2_base + plane * i_.src2_plane, i_.src2_row, i_.src2_x, i_.src2_c)) return false;
  return true;
}

bool VectorUnit::ReadRecords(std::int64_t first, std::int64_t count) {
  return m_.CheckLast(m_.param_log_, "reads", first + count - 1) &&
         m_.Read(&m_.param_log_, static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

bool VectorUnit::CheckParams() {
  const bool depthwise = static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kDepthwise;
  const bool second = i_.negative || static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kScaledAdd;
  const std::int64_t tap_records = lanes_ * 2 / isa::kRecordBytes;
  if (i_.table && !ReadRecords(i_.table_base, 256 / isa::kRecordBytes)) return false;
  for (std::uint32_t c = 0; c < i_.n_c; ++c) {
    if ((c == 0 || i_.param_c) &&
        !ReadRecords(i_.param_base + std::int64_t{c} * i_.param_c, lanes_ * (second ? 2 : 1)))
      return false;
    if (!depthwise || (c != 0 && i_.depthwise_c == 0)) continue;
    for (std::uint32_t ky = 0; ky < i_.kernel_y; ++ky)
      for (std::uint32_t kx = 0; kx < i_.kernel_x; ++kx) {
        if (!rows_.tap_used[ky] || !columns_.tap_used[kx]) continue;
        const std::int64_t tap = std::int64_t{ky} * i_.kernel_x + kx;
        if (!ReadRecords(i_.depthwise_base + std::int64_t{c} * i_.depthwise_c + tap * tap_records,
                         tap_records))
          return false;
      }
  }
  for (std::uint32_t c = 0; c < i_.n_c; ++c)
    if ((c == 0 || i_.param_c) && !TakeParams(c)) return false;
  return true;
}

bool VectorUnit::CheckWrites() {
  RunSet::Offsets rows;
  for (std::uint32_t y = 0; y < i_.n_y; ++y) rows.push_back(DestinationRow(y));
  const std::int64_t results = std::int64_t{i_.n_c} * i_.n_y * i_.n_x;
  for (std::int64_t plane = 0; plane < 1 << i_.out_planes; ++plane) {
    const RunSet half_words(i_.dst_base + plane * i_.dst_plane, rows, Multiples(i_.n_x, i_.dst_x),
                            Multiples(i_.n_c, i_.dst_c));
    if (!m_.CheckLast(m_.act_log_, "writes", half_words.last())) return false;
    // Runs hold each row at most once, so fewer rows than results are results that meet.
    if (half_words.total() != results) return FailTwice();
    if (!half_words.ForEach(
            [&](std::size_t first, std::size_t count) { return m_.Write(&m_.act_log_, first, count); }))
      return m_.fault_->kind == FaultKind::kOverlap ? FailTwice() : false;
  }
  return true;
}

// Names the first half word that two results go to; there is one.
bool VectorUnit::FailTwice() {
  std::vector<std::int64_t> rows;
  ForEachResult([&](std::int64_t, std::int64_t row) {
    rows.push_back(row);
    for (std::int64_t plane = 1; plane < 1 << i_.out_planes; ++plane) rows.push_back(row + plane * i_.dst_plane);
    return true;
  });
  std::sort(rows.begin(), rows.end());
  const auto twice = std::adjacent_find(rows.begin(), rows.end());
  return m_.Fail(FaultKind::kOverlap, "writes half word %lld of ACT more than once",
                 static_cast<long long>(*twice));
}

// Calls f(number of the result, half word of its low plane) in counter order until one returns false.
template <typename F>
bool VectorUnit::ForEachResult(F f) const {
  std::int64_t result = 0;
  for (std::uint32_t c = 0; c < i_.n_c; ++c)
    for (std::uint32_t y = 0; y < i_.n_y; ++y)
      for (std::uint32_t x = 0; x < i_.n_x; ++x, ++result)
        if (!f(result,
               i_.dst_base + DestinationRow(y) + std::int64_t{x} * i_.dst_x + std::int64_t{c} * i_.dst_c))
          return false;
  return true;
}

// A half word must not be read for a later result than the one that overwrites it. Two passes in counter
// order: the last result that reads each half word, then who writes it. Runs only where the two regions meet
// at all.
bool VectorUnit::CheckOwnOverlap() {
  if (from_acc()) return true;
  struct Operand {
    std::int64_t base;
    std::uint32_t row, column, channel;
  };
  std::vector<Operand> operands = {{i_.src_base, i_.src_row, i_.src_x, i_.src_c}};
  for (std::int64_t plane = 1; plane < 1 << i_.in_planes; ++plane)
    operands.push_back({i_.src_base + plane * i_.src_plane, i_.src_row, i_.src_x, i_.src_c});
  for (std::int64_t plane = 0; two_operands() && plane < 1 << i_.in2_planes; ++plane)
    operands.push_back({i_.src2_base + plane * i_.src2_plane, i_.src2_row, i_.src2_x, i_.src2_c});

  std::int64_t row_first = DestinationRow(0), row_last = row_first;
  for (std::uint32_t y = 0; y < i_.n_y; ++y) {
    row_first = std::min(row_first, DestinationRow(y));
    row_last = std::max(row_last, DestinationRow(y));
  }
  const std::int64_t plane = std::int64_t{(1 << i_.out_planes) - 1} * i_.dst_plane;
  const std::int64_t first = i_.dst_base + row_first;
  const std::int64_t last = i_.dst_base + row_last + std::int64_t{i_.n_x - 1} * i_.dst_x +
                            std::int64_t{i_.n_c - 1} * i_.dst_c + plane;
  std::vector<std::int64_t> last_read;  // result by half word - first, -1 none
  for (const Operand& operand : operands) {
    std::int64_t low = WrapRow(rows_.used[0]), high = low;
    for (std::int64_t r : rows_.used) {
      low = std::min(low, WrapRow(r));
      high = std::max(high, WrapRow(r));
    }
    low = operand.base + low * operand.row + columns_.used.front() * operand.column;
    high = operand.base + high * operand.row + columns_.used.back() * operand.column +
           std::int64_t{i_.n_c - 1} * operand.channel;
    if (high < first || last < low) continue;
    last_read.resize(static_cast<std::size_t>(last - first) + 1, -1);
    std::int64_t result = 0;
    for (std::uint32_t c = 0; c < i_.n_c; ++c)
      for (std::uint32_t y = 0; y < i_.n_y; ++y)
        for (std::uint32_t x = 0; x < i_.n_x; ++x, ++result)
          for (std::uint32_t ky = 0; ky < i_.kernel_y; ++ky) {
            const std::int64_t py = rows_.at[std::size_t{ky} * i_.n_y + y];
            if (py < 0) continue;
            for (std::uint32_t kx = 0; kx < i_.kernel_x; ++kx) {
              const std::int64_t px = columns_.at[std::size_t{kx} * i_.n_x + x];
              if (px < 0) continue;
              const std::int64_t at = operand.base + WrapRow(py) * operand.row + px * operand.column +
                                      std::int64_t{c} * operand.channel;
              if (at < first || at > last) continue;
              std::int64_t& read = last_read[static_cast<std::size_t>(at - first)];
              read = std::max(read, result);
            }
          }
  }
  if (last_read.empty()) return true;
  const std::int64_t per_channel = std::int64_t{i_.n_y} * i_.n_x, n_x = i_.n_x;
  for (std::int64_t shift = 0; shift <= plane; shift += std::max<std::int64_t>(plane, 1)) {
    const bool fine = ForEachResult([&](std::int64_t result, std::int64_t row) {
      const std::int64_t read = last_read[static_cast<std::size_t>(row + shift - first)];
      return read <= result ||
             m_.Fail(FaultKind::kOverlap,
                     "writes half word %lld of ACT at (c, y, x) = (%lld, %lld, %lld), but reads it at (%lld, "
                     "%lld, %lld)",
                     static_cast<long long>(row + shift), static_cast<long long>(result / per_channel),
                     static_cast<long long>(result % per_channel / n_x), static_cast<long long>(result % n_x),
                     static_cast<long long>(read / per_channel),
                     static_cast<long long>(read % per_channel / n_x), static_cast<long long>(read % n_x));
    });
    if (!fine) return false;
  }
  return true;
}

}  // namespace tilewright
