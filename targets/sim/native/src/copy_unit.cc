// LOAD and STORE: strided copies between DRAM and a scratchpad.
#include <algorithm>

#include "lanes.h"
#include "units.h"

namespace tilewright {
namespace {

constexpr int kWorkspace = 1, kOutput = 3;

}  // namespace

// Every address is a sum of products of non-negative numbers, so the last element has the largest.
template <typename I>
bool CopyUnit::CheckRange(const I& i, std::size_t element_bytes, std::size_t alignment, const AccessLog& pad,
                          const char* pad_verb, const char* dram_verb) {
  const std::uint64_t counts[3] = {i.n0, i.n1, i.n2};
  const std::uint64_t strides[3] = {i.stride0, i.stride1, i.stride2};
  const std::uint64_t dram_strides[3] = {i.dram_stride0, i.dram_stride1, i.dram_stride2};
  if (i.dram_offset % alignment)
    return m_.Fail(FaultKind::kAlignment, "dram_offset=%u is not a multiple of %zu bytes", i.dram_offset,
                   alignment);
  std::uint64_t row = i.address, end = std::uint64_t{i.dram_offset} + element_bytes;
  for (int k = 0; k < 3; ++k) {
    row += (counts[k] - 1) * strides[k];
    end += (counts[k] - 1) * dram_strides[k];
    if (counts[k] > 1 && dram_strides[k] % alignment)
      return m_.Fail(FaultKind::kAlignment, "dram_stride%d=%llu is not a multiple of %zu bytes", k,
                     static_cast<unsigned long long>(dram_strides[k]), alignment);
  }
  if (!m_.CheckLast(pad, pad_verb, static_cast<std::int64_t>(row))) return false;
  const std::uint64_t granule = static_cast<std::uint64_t>(m_.dram_granule_);
  return m_.CheckLast(m_.dram_log_[i.base], dram_verb, static_cast<std::int64_t>(end / granule - 1));
}

// Calls f(row, DRAM byte, count) for runs of elements that are contiguous on both sides.
template <typename I, typename F>
bool CopyUnit::ForEachRun(const I& i, std::size_t element_bytes, F f) {
  const bool contiguous = i.n2 == 1 || (i.stride2 == 1 && i.dram_stride2 == element_bytes);
  for (std::uint32_t i0 = 0; i0 < i.n0; ++i0) {
    for (std::uint32_t i1 = 0; i1 < i.n1; ++i1) {
      std::size_t row = i.address + std::size_t{i0} * i.stride0 + std::size_t{i1} * i.stride1;
      std::size_t byte = i.dram_offset + std::size_t{i0} * i.dram_stride0 + std::size_t{i1} * i.dram_stride1;
      if (contiguous) {
        if (!f(row, byte, std::size_t{i.n2})) return false;
        continue;
      }
      for (std::uint32_t i2 = 0; i2 < i.n2; ++i2, row += i.stride2, byte += i.dram_stride2)
        if (!f(row, byte, std::size_t{1})) return false;
    }
  }
  return true;
}

bool CopyUnit::Execute(const isa::Load& i) {
  const Overlay& o = m_.o_;
  const std::size_t half = static_cast<std::size_t>(o.half_word_bytes());
  const std::size_t tile = static_cast<std::size_t>(o.tile_bytes());
  const std::size_t lanes = static_cast<std::size_t>(o.block_in);
  struct Target {
    AccessLog* log;
    std::size_t bytes, alignment;
  };
  const Target targets[] = {
      {&m_.act_log_, half, half},
      {&m_.wgt_log_, tile, half},
      {&m_.param_log_, isa::kRecordBytes, std::min<std::size_t>(half, isa::kRecordBytes)},
      {&m_.disp_log_, lanes, half},
  };
  const Target& t = targets[i.memory];
  if (!CheckRange(i, t.bytes, t.alignment, *t.log, "writes", "reads")) return false;
  const std::uint64_t elements = std::uint64_t{i.n0} * i.n1 * i.n2;
  if (elements > t.log->rows())
    return m_.Fail(FaultKind::kOverlap, "writes %llu elements, but the memory has %zu rows",
                   static_cast<unsigned long long>(elements), t.log->rows());
  const std::uint8_t* data = m_.segments_[i.base].data;
  const bool written_by_store = i.base == kWorkspace || i.base == kOutput;
  const std::size_t granule = static_cast<std::size_t>(m_.dram_granule_);
  std::size_t element = 0;  // behind the current run
  return ForEachRun(i, t.bytes, [&](std::size_t row, std::size_t byte, std::size_t count) {
    if (written_by_store && !m_.Read(&m_.dram_log_[i.base], byte / granule, count * t.bytes / granule))
      return false;
    if (!m_.Write(t.log, row, count)) return false;
    m_.stats_->dram_read_bytes += static_cast<std::int64_t>(count * t.bytes);
    const std::uint8_t* from = data + byte;
    element += count;
    switch (static_cast<isa::Memory>(i.memory)) {
      case isa::Memory::kAct:
        UnpackLanes(from, &m_.act_[row * lanes], count * lanes, o.inp_bits, m_.bipolar_);
        break;
      case isa::Memory::kWgt:
        std::memcpy(&m_.wgt_[row * tile], from, count * tile);
        std::fill_n(m_.pack_key_.begin() + static_cast<std::ptrdiff_t>(row), count, PackKey{0});
        break;
      case isa::Memory::kParam:
        std::memcpy(&m_.param_[row * isa::kRecordBytes], from, count * isa::kRecordBytes);
        break;
      case isa::Memory::kDisp:
        return TakeDisplacements(from, row, count, element - count);
    }
    return true;
  });
}

// Sorts an entry's lanes by displacement: MATRIX then reads a half word once for each distinct (dy, dx).
bool CopyUnit::TakeDisplacements(const std::uint8_t* data, std::size_t first, std::size_t count,
                                 std::size_t element) {
  const Overlay& o = m_.o_;
  const std::size_t lanes = static_cast<std::size_t>(o.block_in);
  for (std::size_t e = 0; e < count; ++e) {
    std::vector<Displacement>& entry = m_.disp_[first + e];
    entry.clear();
    for (std::size_t l = 0; l < lanes; ++l) {
      const int byte = data[e * lanes + l];
      const int dy = ((byte & 15) ^ 8) - 8, dx = (byte >> 4 ^ 8) - 8;
      const int both[] = {dy, dx};
      for (const int& d : both)
        if (d < o.displacement_min || d > o.displacement_max)
          return m_.Fail(FaultKind::kOperand, "element %zu lane %zu has %s=%d, the overlay's range is %d..%d",
                         element + e, l, &d == &both[0] ? "dy" : "dx", d, o.displacement_min,
                         o.displacement_max);
      auto same = [&](const Displacement& d) { return d.dy == dy && d.dx == dx; };
      auto at = std::find_if(entry.begin(), entry.end(), same);
      if (at == entry.end()) at = entry.insert(at, {dy, dx, std::vector<std::uint8_t>(lanes, 0)});
      at->mask[l] = 0xff;
    }
  }
  return true;
}

bool CopyUnit::Execute(const isa::Store& i) {
  const Overlay& o = m_.o_;
  const std::size_t half = static_cast<std::size_t>(o.half_word_bytes());
  const std::size_t lanes = static_cast<std::size_t>(o.block_in);
  if (i.base != kWorkspace && i.base != kOutput)
    return m_.Fail(FaultKind::kReadOnly, "writes to %s, which is read-only", kSegmentNames[i.base]);
  if (!CheckRange(i, half, half, m_.act_log_, "reads", "writes")) return false;
  const AccessLog& target = m_.dram_log_[i.base];
  const std::uint64_t bytes = std::uint64_t{i.n0} * i.n1 * i.n2 * half;
  if (bytes > target.rows() * target.label().scale)
    return m_.Fail(FaultKind::kOverlap, "writes %llu bytes, but %s has %zu",
                   static_cast<unsigned long long>(bytes), kSegmentNames[i.base],
                   target.rows() * target.label().scale);
  std::uint8_t* data = m_.segments_[i.base].data;
  const std::size_t per_half = half / static_cast<std::size_t>(m_.dram_granule_);
  return ForEachRun(i, half, [&](std::size_t row, std::size_t byte, std::size_t count) {
    if (!m_.Read(&m_.act_log_, row, count)) return false;
    if (!m_.Write(&m_.dram_log_[i.base], byte / half * per_half, count * per_half)) return false;
    m_.stats_->dram_write_bytes += static_cast<std::int64_t>(count * half);
    PackLanes(&m_.act_[row * lanes], data + byte, count * lanes, o.inp_bits, m_.bipolar_);
    return true;
  });
}

}  // namespace tilewright
