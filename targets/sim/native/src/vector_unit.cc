#include "vector_unit.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace tilewright {
namespace {

constexpr std::int64_t kMLimit = std::int64_t{1} << 24;  // |m| below
constexpr std::int64_t kBLimit = std::int64_t{1} << 47;  // -limit <= B < limit
constexpr std::int32_t kSMin = 1, kSMax = 62;
constexpr int kChunk = 32;  // pixels at once: sums of 32 lanes stay in the L1 cache

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

// Reads may run ahead of writes within a row: CheckOwnOverlap has refused what would notice.
void VectorUnit::Row(std::uint32_t c, std::uint32_t y) {
  RequantArgs args;
  args.v = v_.data();
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
  RequantMode mode = i_.negative ? RequantMode::kNegative : RequantMode::kPlain;
  if (two_operands())
    mode = static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kMultiply ? RequantMode::kMultiply
                                                                         : RequantMode::kScaledAdd;
  for (std::uint32_t x = 0; x < i_.n_x; x += kChunk) {
    args.n = static_cast<int>(std::min<std::uint32_t>(kChunk, i_.n_x - x));
    Window(c, y, x, args.n);
    if (two_operands()) Second(c, y, x, args.n);
    kernels_->requantise[static_cast<int>(mode)](args);
    Put(c, y, x, args.n);
  }
}

// v = op over the windows of pixels x0 .. x0+n-1, wrapped to acc_bits.
void VectorUnit::Window(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n) {
  const auto op = static_cast<isa::VectorOp>(i_.op);
  const TapMode mode = op == isa::VectorOp::kMax         ? TapMode::kMax
                       : op == isa::VectorOp::kDepthwise ? TapMode::kDepthwise
                                                         : TapMode::kSum;
  const std::size_t lanes = static_cast<std::size_t>(lanes_), count = static_cast<std::size_t>(n) * lanes;
  const std::size_t out16 = static_cast<std::size_t>(m_.out16_);
  const std::int32_t zero_point = static_cast<std::int32_t>(i_.src_zp);
  std::fill_n(v_.begin(), count, mode == TapMode::kMax ? std::numeric_limits<std::int32_t>::min() : 0);
  TapArgs args;
  args.lanes = lanes_;
  args.held_shift = m_.bipolar_;
  args.inp_bits = m_.o_.inp_bits;
  args.acc_shift = 32 - m_.o_.acc_bits;
  args.zero_point = mode == TapMode::kMax ? 0 : zero_point;
  // Pixels of a row lie evenly apart, for columns do not wrap.
  args.pitch = static_cast<std::ptrdiff_t>(i_.stride_x * i_.src_x * (from_acc() ? out16 : lanes));
  for (std::uint32_t ky = 0; ky < i_.kernel_y; ++ky) {
    const std::int64_t py = rows_.at[std::size_t{ky} * i_.n_y + y];
    if (py < 0) continue;
    for (std::uint32_t kx = 0; kx < i_.kernel_x; ++kx) {
      const std::int64_t* px = &columns_.at[std::size_t{kx} * i_.n_x + x0];
      int begin = 0, end = n;  // the pixels whose tap lies inside are contiguous
      while (begin < n && px[begin] < 0) ++begin;
      while (end > begin && px[end - 1] < 0) --end;
      if (begin == end) continue;
      const std::size_t at =
          i_.src_base + static_cast<std::size_t>(WrapRow(py) * i_.src_row + px[begin] * i_.src_x);
      args.v = v_.data() + static_cast<std::size_t>(begin) * lanes;
      args.n = end - begin;
      args.act = args.high = nullptr;
      args.acc = nullptr;
      if (from_acc()) {
        const std::size_t halves = static_cast<std::size_t>(halves_);
        args.acc = &m_.acc_[(at + c / halves * i_.src_c) * out16 + c % halves * lanes];
      } else {
        const std::size_t half_word = at + std::size_t{c} * i_.src_c;
        args.act = &m_.act_[half_word * lanes];
        if (i_.in_planes) args.high = &m_.act_[(half_word + i_.src_plane) * lanes];
      }
      args.weights =
          mode == TapMode::kDepthwise ? &weights_[(std::size_t{ky} * i_.kernel_x + kx) * lanes] : nullptr;
      kernels_->tap[static_cast<int>(mode)](args);
    }
  }
  const int unused = args.acc_shift;
  const std::int32_t subtract = mode == TapMode::kMax ? zero_point : 0;
  if (unused == 0 && subtract == 0) return;
  for (std::size_t k = 0; k < count; ++k)
    v_[k] =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(WrapSub(v_[k], subtract)) << unused) >> unused;
}

void VectorUnit::Second(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n) {
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  TapArgs args{};
  args.v = w_.data();
  args.lanes = lanes_;
  args.n = n;
  args.held_shift = m_.bipolar_;
  args.inp_bits = m_.o_.inp_bits;
  args.zero_point = static_cast<std::int32_t>(i_.src2_zp);
  args.pitch = static_cast<std::ptrdiff_t>(i_.stride_x * i_.src2_x * lanes);
  const std::size_t at = i_.src2_base + static_cast<std::size_t>(WrapRow(rows_.at[y]) * i_.src2_row +
                                                                 columns_.at[x0] * i_.src2_x);
  args.act = &m_.act_[(at + std::size_t{c} * i_.src2_c) * lanes];
  std::fill_n(w_.begin(), static_cast<std::size_t>(n) * lanes, 0);
  kernels_->tap[static_cast<int>(TapMode::kSum)](args);
}

void VectorUnit::Put(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n) {
  const std::size_t lanes = static_cast<std::size_t>(lanes_);
  const int bits = m_.o_.inp_bits, mask = (1 << bits) - 1, held = m_.bipolar_;
  const std::uint8_t* table = i_.table ? &m_.param_[std::size_t{i_.table_base} * isa::kRecordBytes] : nullptr;
  for (int p = 0; p < n; ++p) {
    const std::size_t at = i_.dst_base + static_cast<std::size_t>(DestinationRow(y)) +
                           (x0 + static_cast<std::size_t>(p)) * i_.dst_x + std::size_t{c} * i_.dst_c;
    const std::int32_t* y_lanes = &y_[static_cast<std::size_t>(p) * lanes];
    std::uint8_t* to = &m_.act_[at * lanes];
    if (table) {
      for (std::size_t l = 0; l < lanes; ++l)
        to[l] = static_cast<std::uint8_t>((table[y_lanes[l]] & mask) << held);
      continue;
    }
    for (std::size_t l = 0; l < lanes; ++l) to[l] = static_cast<std::uint8_t>((y_lanes[l] & mask) << held);
    if (!i_.out_planes) continue;
    std::uint8_t* high = &m_.act_[(at + i_.dst_plane) * lanes];
    for (std::size_t l = 0; l < lanes; ++l)
      high[l] = static_cast<std::uint8_t>((y_lanes[l] >> bits & mask) << held);
  }
}

}  // namespace tilewright
