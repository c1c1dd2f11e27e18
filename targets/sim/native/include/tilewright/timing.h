// The timing simulator: how long a stream takes, by the rules of targets/timing.md.
//
// It reads the stream alone. Time depends on no value in any memory, so it runs apart from the functional
// simulation: a tuner asks for time a thousand times and for results never, and a result needs no clock. What
// it shares with the fast simulator is the decoder and the check of the encoding; a stream that breaks
// another rule of the machine (races, addresses) has a time here, and is the functional simulators' to
// refuse.
#ifndef TILEWRIGHT_TIMING_H_
#define TILEWRIGHT_TIMING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tilewright/simulator.h"

namespace tilewright {

// Figures of overlay and board, then those of the rules; targets/sim/rules.py says what each is.
struct TimingConfig {
  std::int32_t block_in, block_out, inp_bits, wgt_bits, act_half_words, vector_lanes;
  std::int32_t displacement_min, displacement_max;
  std::int32_t dram_read_ports, dram_read_bytes_per_cycle, dram_write_bytes_per_cycle, dram_bytes_per_cycle;
  std::int32_t dram_burst_bytes, dram_outstanding, dram_latency_cycles;
  std::int32_t queue_depth, fetch_instructions, start_cycles, tile_cycles, acc_cycles;
  std::int32_t matrix_depth, vector_depth, window_reuse, param_records, table_cycles;
  std::int32_t load_instructions, load_buffer_bytes, store_instructions, store_buffer_bytes;
};

// What a unit does in a cycle; each cycle of each unit counts as exactly one.
enum class Activity : int {
  kBusy = 0,
  kEmpty,      // no instruction in the queue
  kTokenLoad,  // the next instruction waits for a token from LOAD, and so on
  kTokenMatrix,
  kTokenVector,
  kTokenStore,
  kStart,   // start-up of an instruction
  kTile,    // MATRIX: the shadow tile is not loaded
  kAcc,     // MATRIX: read-modify-write of ACC
  kParam,   // VECTOR: channel parameters are not loaded
  kPort,    // a bank's port has gone to a unit of higher priority
  kResult,  // VECTOR: the write port is busy with an earlier result
  kDram,    // waits for DRAM: latency, bandwidth, outstanding bursts
};
inline constexpr int kActivities = 13;

struct InstructionTime {
  std::int64_t dispatched = 0;  // enters its unit's queue
  std::int64_t start = 0;       // takes its tokens
  std::int64_t end = 0;         // retires; gives its tokens
};

struct Timing {
  std::int64_t cycles = 0;
  std::array<std::array<std::int64_t, kActivities>, 4> activity{};
  std::int64_t dram_read_bytes = 0, dram_write_bytes = 0, fetch_bytes = 0;
  std::vector<InstructionTime> instructions;
};

// Returns false and fills `fault` where the stream is malformed, its tokens do not match, or `limit` cycles
// pass. `leap` off steps every cycle; the result is the same.
bool RunTiming(const TimingConfig& config, const std::uint8_t* stream, std::size_t size, std::int64_t limit,
               bool leap, Timing* timing, Fault* fault);

}  // namespace tilewright

#endif  // TILEWRIGHT_TIMING_H_
