// LOAD and STORE: strided copies between DRAM and a scratchpad.
#include <algorithm>

#include "lanes.h"
#include "units.h"

namespace tilewright {
namespace {

constexpr const char* kSegmentNames[] = {"CONSTANT", "WORKSPACE", "INPUT", "OUTPUT"};
constexpr int kWorkspace = 1, kOutput = 3;

}  // namespace

// Every address is a sum of products of non-negative numbers, so the last element has the largest.
template <typename I>
bool CopyUnit::CheckRange(const I& i, std::size_t element_bytes, std::size_t alignment, std::size_t rows,
                          const char* memory, const char* row_name) {
  const std::uint64_t counts[3] = {i.n0, i.n1, i.n2};
  const std::uint64_t strides[3] = {i.stride0, i.stride1, i.stride2};
  const std::uint64_t dram_strides[3] = {i.dram_stride0, i.dram_stride1, i.dram_stride2};
  std::uint64_t row = i.address, end = std::uint64_t{i.dram_offset} + element_bytes;
  bool aligned = i.dram_offset % alignment == 0;
  std::uint64_t odd = i.dram_offset;
  for (int k = 0; k < 3; ++k) {
    row += (counts[k] - 1) * strides[k];
    end += (counts[k] - 1) * dram_strides[k];
    if (aligned && counts[k] > 1 && dram_strides[k] % alignment != 0) {
      aligned = false;
      odd += dram_strides[k];
    }
  }
  if (!aligned)
    return m_.Fail(FaultKind::kAlignment, "DRAM byte %llu of %s is not a multiple of %zu",
                   static_cast<unsigned long long>(odd), kSegmentNames[i.base], alignment);
  if (row >= rows)
    return m_.Fail(FaultKind::kAddress, "%s %s %llu is outside 0..%lld", memory, row_name,
                   static_cast<unsigned long long>(row), static_cast<long long>(rows) - 1);
  const Segment& segment = m_.segments_[i.base];
  if (end > segment.size)
    return m_.Fail(FaultKind::kAddress, "DRAM bytes up to %llu of %s, which has %zu",
                   static_cast<unsigned long long>(end), kSegmentNames[i.base], segment.size);
  return true;
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
    const char *memory, *row_name;
    AccessLog* log;
    std::size_t bytes, alignment;
  };
  const Target targets[] = {
      {"ACT", "half word", &m_.act_log_, half, half},
      {"WGT", "tile", &m_.wgt_log_, tile, half},
      {"PARAM", "record", &m_.param_log_, isa::kRecordBytes, std::min<std::size_t>(half, isa::kRecordBytes)},
      {"DISP", "entry", &m_.disp_log_, lanes, half},
  };
  const Target& t = targets[i.memory];
  if (!CheckRange(i, t.bytes, t.alignment, t.log->rows(), t.memory, t.row_name)) return false;
  const std::uint8_t* data = m_.segments_[i.base].data;
  const bool written_by_store = i.base == kWorkspace || i.base == kOutput;
  const std::size_t granule = static_cast<std::size_t>(m_.dram_granule_);
  return ForEachRun(i, t.bytes, [&](std::size_t row, std::size_t byte, std::size_t count) {
    if (written_by_store &&
        !m_.Read(&m_.dram_log_[i.base], byte / granule, count * t.bytes / granule, kSegmentNames[i.base],
                 "DRAM granule"))
      return false;
    if (!m_.Write(t.log, row, count, t.memory, t.row_name)) return false;
    m_.stats_->dram_read_bytes += static_cast<std::int64_t>(count * t.bytes);
    const std::uint8_t* from = data + byte;
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
        return TakeDisplacements(from, row, count);
    }
    return true;
  });
}

// Sorts an entry's lanes by displacement: MATRIX then reads a half word once for each distinct (dy, dx).
bool CopyUnit::TakeDisplacements(const std::uint8_t* data, std::size_t first, std::size_t count) {
  const Overlay& o = m_.o_;
  const std::size_t lanes = static_cast<std::size_t>(o.block_in);
  for (std::size_t e = 0; e < count; ++e) {
    std::vector<Displacement>& entry = m_.disp_[first + e];
    entry.clear();
    for (std::size_t l = 0; l < lanes; ++l) {
      const int byte = data[e * lanes + l];
      const int dy = ((byte & 15) ^ 8) - 8, dx = (byte >> 4 ^ 8) - 8;
      for (int d : {dy, dx})
        if (d < o.displacement_min || d > o.displacement_max)
          return m_.Fail(FaultKind::kOperand, "DISP entry %zu lane %zu: displacement %d is outside %d..%d",
                         first + e, l, d, o.displacement_min, o.displacement_max);
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
    return m_.Fail(FaultKind::kReadOnly, "STORE writes WORKSPACE or OUTPUT, not %s", kSegmentNames[i.base]);
  if (!CheckRange(i, half, half, m_.act_log_.rows(), "ACT", "half word")) return false;
  std::uint8_t* data = m_.segments_[i.base].data;
  const std::size_t per_half = half / static_cast<std::size_t>(m_.dram_granule_);
  return ForEachRun(i, half, [&](std::size_t row, std::size_t byte, std::size_t count) {
    if (!m_.Read(&m_.act_log_, row, count, "ACT", "half word")) return false;
    if (!m_.Write(&m_.dram_log_[i.base], byte / half * per_half, count * per_half, kSegmentNames[i.base],
                  "DRAM granule"))
      return false;
    m_.stats_->dram_write_bytes += static_cast<std::int64_t>(count * half);
    PackLanes(&m_.act_[row * lanes], data + byte, count * lanes, o.inp_bits, m_.bipolar_);
    return true;
  });
}

}  // namespace tilewright
