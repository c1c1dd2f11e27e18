#include "tilewright/simulator.h"

#include <algorithm>

#include "machine.h"

namespace tilewright {
namespace {

constexpr const char* kFaultKindNames[] = {
    "none",    "encoding", "operand", "address", "alignment", "read_only", "uninitialised",
    "overlap", "race",     "token",   "finish",  "argument",  "memory",
};

bool PowerOfTwo(std::int64_t v) { return v > 0 && (v & (v - 1)) == 0; }

// What targets/config.py promises, checked again because a caller of the C interface need not have used it.
const char* OverlayFault(const Overlay& o) {
  auto width = [](int bits) { return bits == 1 || bits == 2 || bits == 4 || bits == 8; };
  if (!width(o.inp_bits) || !width(o.wgt_bits)) return "inp_bits and wgt_bits must be 1, 2, 4 or 8";
  if ((o.inp_bits == 1) != (o.wgt_bits == 1)) return "inp_bits and wgt_bits must both be 1 or neither";
  if (o.acc_bits < 8 || o.acc_bits > 32) return "acc_bits must be 8..32";
  if (!PowerOfTwo(o.block_in) || o.block_in < 8 || o.block_in > 256)
    return "block_in must be a power of two, 8..256";
  if (o.block_out != o.block_in && o.block_out != 2 * o.block_in)
    return "block_out must be block_in or twice that";
  if (o.half_word_bytes() < 8) return "a half word must have 8 bytes or more";
  auto rows = [](std::int32_t n) { return n > 0 && n <= 65536; };
  if (!rows(o.act_half_words) || !rows(o.wgt_tiles) || !rows(o.param_records))
    return "memories must have 1..65536 rows";
  if (!rows(o.acc_vectors) || o.acc_vectors % 2) return "ACC must have an even number of vectors";
  if (o.disp_entries < 0 || o.disp_entries > 65536) return "disp_entries must be 0..65536";
  if (o.displacement_min < -8 || o.displacement_min > 0 || o.displacement_max < 0 || o.displacement_max > 7)
    return "displacements must lie in -8..7 and include 0";
  return nullptr;
}

}  // namespace

const char* FaultKindName(FaultKind kind) { return kFaultKindNames[static_cast<int>(kind)]; }

Simulator::Simulator() = default;
Simulator::~Simulator() = default;

std::unique_ptr<Simulator> Simulator::Create(const Overlay& overlay, Fault* fault) {
  if (const char* wrong = OverlayFault(overlay)) {
    *fault = {FaultKind::kArgument, -1, -1, wrong};
    return nullptr;
  }
  std::unique_ptr<Simulator> simulator(new Simulator());
  simulator->machine_ = std::make_unique<Machine>(overlay);
  return simulator;
}

bool Simulator::Run(const std::uint8_t* stream, std::size_t size, const Segments& segments, Stats* stats,
                    Fault* fault) {
  return machine_->Run(stream, size, segments, stats, fault);
}

void Simulator::OutputWritten(bool* written, std::size_t count) const {
  const std::size_t granule = static_cast<std::size_t>(machine_->dram_granule());
  for (std::size_t k = 0; k < count; k += granule)
    std::fill_n(written + k, std::min(granule, count - k), machine_->OutputWritten(k / granule));
}

bool Simulator::SetSimdLevel(SimdLevel level) {
  if (!SimdLevelSupported(level)) return false;
  machine_->level = level;
  return true;
}

SimdLevel Simulator::simd_level() const { return machine_->level; }

}  // namespace tilewright
