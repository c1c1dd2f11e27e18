#include "timing_check.h"

#include <algorithm>
#include <string>

#include "access_log.h"
#include "isa.h"
#include "timing_banks.h"

namespace tilewright {
namespace {

bool Fail(Fault* fault, FaultKind kind, std::int64_t index, const std::string& text) {
  fault->kind = kind;
  fault->instruction = index;
  fault->text = text;
  return false;
}

}  // namespace

// The k-th give of a pair of units comes before its k-th wait, and none is left: then no stream can deadlock.
bool CheckTimingTokens(const std::uint8_t* stream, std::int64_t count, Fault* fault) {
  int tokens[kUnits][kUnits] = {};
  for (std::int64_t n = 0; n < count; ++n) {
    const std::uint8_t* bytes = stream + n * isa::kInstructionBytes;
    const int unit = isa::GetOpcode(bytes) - static_cast<int>(isa::Opcode::kLoad);
    if (unit >= kUnits) break;
    for (int other = 0; other < kUnits; ++other) {
      if (isa::GetBits(bytes, isa::kLoadFields[0].offset + other, 1) && --tokens[other][unit] < 0)
        return Fail(fault, FaultKind::kToken, n,
                    std::string("waits for a token from ") + isa::kUnitNames[other] +
                        ", but none was given before; an earlier " + isa::kUnitNames[other] +
                        " must give to " + isa::kUnitNames[unit]);
      if (isa::GetBits(bytes, isa::kLoadFields[1].offset + other, 1)) ++tokens[unit][other];
    }
  }
  for (int from = 0; from < kUnits; ++from)
    for (int to = 0; to < kUnits; ++to)
      if (tokens[from][to] != 0)
        return Fail(fault, FaultKind::kToken, count - 1,
                    std::string("tokens are left: ") + isa::kUnitNames[from] + "->" + isa::kUnitNames[to] +
                        " " + std::to_string(tokens[from][to]) + "; each token given must be waited for");
  return true;
}

const char* TimingConfigFault(const TimingConfig& c) {
  const std::int32_t positive[] = {c.block_in,
                                   c.block_out,
                                   c.inp_bits,
                                   c.wgt_bits,
                                   c.act_half_words,
                                   c.vector_lanes,
                                   c.dram_read_ports,
                                   c.dram_read_bytes_per_cycle,
                                   c.dram_write_bytes_per_cycle,
                                   c.dram_burst_bytes,
                                   c.dram_outstanding,
                                   c.dram_latency_cycles,
                                   c.queue_depth,
                                   c.tile_cycles,
                                   c.acc_cycles,
                                   c.matrix_depth,
                                   c.vector_depth,
                                   c.window_reuse,
                                   c.param_records,
                                   c.load_instructions,
                                   c.store_instructions};
  for (std::int32_t v : positive)
    if (v <= 0) return "figures of the machine must be positive";
  if (c.inp_bits > 8 || c.start_cycles < 0 || c.table_cycles < 0)
    return "figures of the machine are out of range";
  if (c.dram_read_ports > kReadPorts) return "dram_read_ports must be at most 4";
  if (c.act_half_words > 65536 || c.block_in > 256) return "ACT must have at most 65536 half words";
  const std::int32_t half = c.block_in * c.inp_bits / 8;
  if (c.dram_bytes_per_cycle < std::max(c.dram_read_bytes_per_cycle, c.dram_write_bytes_per_cycle))
    return "dram_bytes_per_cycle must be at least that of either way";
  if (c.dram_burst_bytes < isa::kInstructionBytes ||
      c.fetch_instructions < c.dram_burst_bytes / isa::kInstructionBytes)
    return "a burst must hold an instruction, and the fetch buffer a burst";
  if (half <= 0 || c.dram_burst_bytes % half || c.load_buffer_bytes < half + c.dram_read_bytes_per_cycle ||
      c.store_buffer_bytes < c.dram_burst_bytes + half)
    return "the buffers of LOAD and STORE must hold a burst and a half word";
  return nullptr;
}

}  // namespace tilewright
