#include "vector_unit.h"

#include <algorithm>
#include <cstring>

namespace tilewright {
namespace {

constexpr std::int64_t kMLimit = std::int64_t{1} << 24;  // |m| below
constexpr std::int64_t kBLimit = std::int64_t{1} << 47;  // -limit <= B < limit
constexpr std::int32_t kSMin = 1, kSMax = 62;
constexpr std::uint32_t kChunk = 32;  // pixels at once: sums of 32 lanes stay in the L1 cache

// Little-endian, whatever the host is.
std::uint64_t GetWord(const std::uint8_t* bytes, int count) {
  std::uint64_t value = 0;
  for (int k = count - 1; k >= 0; --k) value = value << 8 | bytes[k];
  return value;
}

}  // namespace

bool VectorUnit::Execute(const isa::Vector& i) {
  i_ = i;
  lanes_ = m_.o_.block_in;
  halves_ = m_.o_.block_out / m_.o_.block_in;
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  for (auto* array : {&m_first_, &m_second_}) array->resize(lanes);
  for (auto* array : {&s_, &b_first_, &b_second_}) array->resize(lanes);
  if (!CheckOperands() || !CheckReads() || !CheckParams() || !CheckWrites() || !CheckOwnOverlap())
    return false;
  kernels_ = &VectorKernelsFor(m_.level);
  MakeSegments();
  const std::size_t pixels = std::min<std::size_t>(kChunk, i_.n_x);
  for (auto* array : {&v_, &w_, &y_}) array->resize(pixels * lanes);
  for (std::uint32_t c = 0; c < i_.n_c; ++c) {
    if ((c == 0 || i_.param_c) && !TakeParams(c)) return false;
    if (static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kDepthwise) {
      const std::size_t taps = std::size_t{i_.kernel_y} * i_.kernel_x;
      weights_.assign(taps * lanes, 0);
      const std::size_t first = i_.depthwise_base + std::size_t{c} * i_.depthwise_c;
      // Taps that lie outside the map throughout are not read, and may even lie outside PARAM.
      for (std::size_t k = 0; k < weights_.size(); ++k) {
        const std::size_t byte = first * isa::kRecordBytes + 2 * k;
        if (byte + 2 > m_.param_.size()) break;
        weights_[k] = static_cast<std::int16_t>(GetWord(&m_.param_[byte], 2));
      }
    }
    for (std::uint32_t y = 0; y < i_.n_y; ++y) Row(c, y);
  }
  auto inside = [](const Axis& axis) {
    return static_cast<std::int64_t>(axis.at.size()) - std::count(axis.at.begin(), axis.at.end(), -1);
  };
  m_.stats_->vector_reads += i_.n_c * inside(rows_) * inside(columns_);
  return true;
}

bool VectorUnit::TakeParams(std::uint32_t c) {
  const bool second = i_.negative || static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kScaledAdd;
  const std::size_t first = i_.param_base + std::size_t{c} * i_.param_c;
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  for (std::size_t set = 0; set < (second ? 2u : 1u); ++set)
    for (std::size_t l = 0; l < lanes; ++l) {
      const std::size_t record = first + set * lanes + l;
      const std::uint8_t* bytes = &m_.param_[record * isa::kRecordBytes];
      const std::int32_t m = static_cast<std::int32_t>(GetWord(bytes, 4));
      const std::int32_t s = static_cast<std::int32_t>(GetWord(bytes + 4, 4));
      const std::int64_t b = static_cast<std::int64_t>(GetWord(bytes + 8, 8));
      if (m <= -kMLimit || m >= kMLimit)
        return m_.Fail(FaultKind::kOperand, "m=%d in record %zu of PARAM is not within %lld..%lld", m, record,
                       static_cast<long long>(1 - kMLimit), static_cast<long long>(kMLimit - 1));
      if (set == 0 && (s < kSMin || s > kSMax))
        return m_.Fail(FaultKind::kOperand, "s=%d in record %zu of PARAM is not within %d..%d", s, record,
                       kSMin, kSMax);
      if (b < -kBLimit || b >= kBLimit)
        return m_.Fail(FaultKind::kOperand, "B=%lld in record %zu of PARAM is not within %lld..%lld",
                       static_cast<long long>(b), record, static_cast<long long>(-kBLimit),
                       static_cast<long long>(kBLimit - 1));
      (set ? m_second_ : m_first_)[l] = m;
      (set ? b_second_ : b_first_)[l] = b;
      if (set == 0) s_[l] = s;
    }
  return true;
}

// Pixels of a row whose windows have the same taps inside the map, so many at most as are worked on at once.
void VectorUnit::MakeSegments() {
  segments_.clear();
  for (std::uint32_t x = 0; x < i_.n_x; ++x) {
    const auto same = [&](const Segment& s) {
      if (x % kChunk == 0) return false;
      for (std::uint32_t kx = 0; kx < i_.kernel_x; ++kx)
        if ((ColumnAt(kx, s.x) < 0) != (ColumnAt(kx, x) < 0)) return false;
      return true;
    };
    if (segments_.empty() || !same(segments_.back())) segments_.push_back({x, 0});
    ++segments_.back().n;
  }
}

// Reads may run ahead of writes within a row: CheckOwnOverlap has refused what would notice.
void VectorUnit::Row(std::uint32_t c, std::uint32_t y) {
  RequantArgs args;
  args.w = w_.data();
  args.m = m_first_.data();
  args.m2 = m_second_.data();
  args.b = b_first_.data();
  args.b2 = b_second_.data();
  args.s = s_.data();
  args.y = y_.data();
  args.lanes = lanes_;
  args.lo = static_cast<std::int32_t>(i_.lo);
  args.hi = static_cast<std::int32_t>(i_.hi);
  args.out_zp = static_cast<std::int32_t>(i_.out_zp);
  args.wrap = 32 - m_.o_.acc_bits;
  args.byte_bits = m_.o_.inp_bits;
  args.held_shift = m_.bipolar_;
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  const bool bytes = !i_.table && !i_.out_planes;
  args.bytes_pitch = static_cast<std::ptrdiff_t>(i_.dst_x * lanes);
  // A window of one sum needs no loop over taps.
  const bool direct = from_acc() && i_.kernel_y == 1 && i_.kernel_x == 1 &&
                      static_cast<isa::VectorOp>(i_.op) != isa::VectorOp::kDepthwise;
  const bool late = direct || static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kMax;
  args.subtract = late ? static_cast<std::int32_t>(i_.src_zp) : 0;
  RequantMode mode = i_.negative ? RequantMode::kNegative : RequantMode::kPlain;
  if (two_operands())
    mode = static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kMultiply ? RequantMode::kMultiply
                                                                         : RequantMode::kScaledAdd;
  const Segment* segment = segments_.data();
  for (std::uint32_t x = 0; x < i_.n_x; x += kChunk) {
    args.n = static_cast<int>(std::min<std::uint32_t>(kChunk, i_.n_x - x));
    if (direct) {
      args.v = AccAt(c, rows_.at[y], ColumnAt(0, x));
      args.v_pitch = static_cast<std::ptrdiff_t>(i_.stride_x) * i_.src_x * m_.out16_;
    } else {
      args.v = v_.data();
      args.v_pitch = lanes_;
      for (; segment != segments_.data() + segments_.size() && segment->x < x + kChunk; ++segment)
        Window(c, y, *segment, &v_[(segment->x - x) * lanes]);
    }
    if (two_operands()) Second(c, y, x, args.n);
    args.bytes = bytes ? &m_.act_[Destination(c, y, x) * lanes] : nullptr;
    kernels_->requantise[static_cast<int>(mode)](args);
    if (!bytes) Put(c, y, x, args.n);
  }
}

// v = op over the windows of a segment, not yet wrapped to acc_bits; of kMax before the zero point is taken off.
void VectorUnit::Window(std::uint32_t c, std::uint32_t y, const Segment& segment, std::int32_t* v) {
  const auto op = static_cast<isa::VectorOp>(i_.op);
  const TapMode mode = op == isa::VectorOp::kMax         ? TapMode::kMax
                       : op == isa::VectorOp::kDepthwise ? TapMode::kDepthwise
                                                         : TapMode::kSum;
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  taps_.clear();
  for (std::uint32_t ky = 0; ky < i_.kernel_y; ++ky) {
    const std::int64_t py = rows_.at[std::size_t{ky} * i_.n_y + y];
    if (py < 0) continue;
    for (std::uint32_t kx = 0; kx < i_.kernel_x; ++kx) {
      const std::int64_t px = ColumnAt(kx, segment.x);
      if (px < 0) continue;
      Tap tap{};
      if (from_acc()) {
        tap.acc = AccAt(c, py, px);
      } else {
        const std::size_t at = i_.src_base + std::size_t{c} * i_.src_c +
                               static_cast<std::size_t>(WrapRow(py) * i_.src_row + px * i_.src_x);
        tap.act = &m_.act_[at * lanes];
        if (i_.in_planes) tap.high = &m_.act_[(at + i_.src_plane) * lanes];
      }
      if (mode == TapMode::kDepthwise) tap.weights = &weights_[(std::size_t{ky} * i_.kernel_x + kx) * lanes];
      taps_.push_back(tap);
    }
  }
  WindowArgs args;
  args.v = v;
  args.taps = taps_.data();
  args.count = static_cast<int>(taps_.size());
  // Pixels of a row lie evenly apart, for columns do not wrap.
  const std::size_t pitch = from_acc() ? static_cast<std::size_t>(m_.out16_) : lanes;
  args.pitch = static_cast<std::ptrdiff_t>(i_.stride_x * i_.src_x * pitch);
  args.n = static_cast<int>(segment.n);
  args.lanes = lanes_;
  args.held_shift = m_.bipolar_;
  args.inp_bits = m_.o_.inp_bits;
  args.planes = 1 << i_.in_planes;
  args.plane = static_cast<std::ptrdiff_t>(i_.src_plane * lanes);
  args.acc_shift = 32 - m_.o_.acc_bits;
  args.zero_point = mode == TapMode::kMax ? 0 : static_cast<std::int32_t>(i_.src_zp);
  kernels_->window[static_cast<int>(mode)](args);
}

// Channel half word c of the sums at a place of ACC's map.
const std::int32_t* VectorUnit::AccAt(std::uint32_t c, std::int64_t row, std::int64_t column) const {
  const std::size_t halves = static_cast<std::size_t>(halves_);
  const std::size_t vector = i_.src_base + c / halves * i_.src_c +
                             static_cast<std::size_t>(row * i_.src_row + column * i_.src_x);
  return &m_.acc_[vector * static_cast<std::size_t>(m_.out16_) + c % halves * static_cast<std::size_t>(lanes_)];
}

std::size_t VectorUnit::Destination(std::uint32_t c, std::uint32_t y, std::uint32_t x) const {
  return i_.dst_base + static_cast<std::size_t>(DestinationRow(y)) + std::size_t{x} * i_.dst_x +
         std::size_t{c} * i_.dst_c;
}

void VectorUnit::Second(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n) {
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  const std::size_t at = i_.src2_base + static_cast<std::size_t>(WrapRow(rows_.at[y]) * i_.src2_row +
                                                                 columns_.at[x0] * i_.src2_x);
  Tap tap{};
  const std::size_t low = at + std::size_t{c} * i_.src2_c;
  tap.act = &m_.act_[low * lanes];
  if (i_.in2_planes) tap.high = &m_.act_[(low + i_.src2_plane) * lanes];
  WindowArgs args{};
  args.v = w_.data();
  args.taps = &tap;
  args.count = 1;
  args.pitch = static_cast<std::ptrdiff_t>(i_.stride_x * i_.src2_x * lanes);
  args.n = n;
  args.lanes = lanes_;
  args.held_shift = m_.bipolar_;
  args.inp_bits = m_.o_.inp_bits;
  args.planes = 1 << i_.in2_planes;
  args.plane = static_cast<std::ptrdiff_t>(i_.src2_plane * lanes);
  args.zero_point = static_cast<std::int32_t>(i_.src2_zp);
  kernels_->window[static_cast<int>(TapMode::kSum)](args);
}

// Results that take more than the requantiser's low bits: through a table, or in several planes.
void VectorUnit::Put(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n) {
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  const int bits = m_.o_.inp_bits, mask = (1 << bits) - 1, held = m_.bipolar_;
  const std::uint8_t* table = i_.table ? &m_.param_[std::size_t{i_.table_base} * isa::kRecordBytes] : nullptr;
  for (int p = 0; p < n; ++p) {
    const std::size_t at = Destination(c, y, x0 + static_cast<std::uint32_t>(p));
    std::int32_t* y_lanes = &y_[static_cast<std::size_t>(p) * lanes];
    if (table)
      for (std::size_t l = 0; l < lanes; ++l) y_lanes[l] = table[y_lanes[l]];
    for (std::size_t k = 0; k < std::size_t{1} << i_.out_planes; ++k) {
      std::uint8_t* to = &m_.act_[(at + k * i_.dst_plane) * lanes];
      const int shift = static_cast<int>(k) * bits;
      for (std::size_t l = 0; l < lanes; ++l)
        to[l] = static_cast<std::uint8_t>((y_lanes[l] >> shift & mask) << held);
    }
  }
}

}  // namespace tilewright
