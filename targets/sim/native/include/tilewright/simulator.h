// The fast simulator: runs a binary instruction stream of the Tilewright machine, with every check of the
// reference simulator (targets/sim/reference.py, which is the specification; targets/isa/spec.py defines each
// instruction). No TVM, no globals: objects are independent of each other, one object may run many streams.
#ifndef TILEWRIGHT_SIMULATOR_H_
#define TILEWRIGHT_SIMULATOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace tilewright {

// Instruction sets of the host that the kernels are written for, in order of preference.
enum class SimdLevel : int { kPlain = 0, kAvx2 = 1, kAvxVnni = 2, kAvx512 = 3, kAvx512Vnni = 4 };
inline constexpr int kSimdLevels = 5;

const char* SimdLevelName(SimdLevel level);
bool SimdLevelSupported(SimdLevel level);  // by this processor and this build
SimdLevel BestSimdLevel();

// What kind of fault a stream has; the names are those of the reference simulator.
enum class FaultKind : int {
  kNone = 0,
  kEncoding,       // bytes that are no instruction
  kOperand,        // fields or parameters that are illegal together or out of range
  kAddress,        // outside a memory or a DRAM segment
  kAlignment,      // DRAM address not a multiple of the half word
  kReadOnly,       // a STORE into constants or inputs
  kUninitialised,  // a row or DRAM byte read that nothing has written
  kOverlap,        // one instruction meets its own destination
  kRace,           // conflicting accesses of two units that no token orders
  kToken,          // a wait without a give, a counter above 255, tokens left over
  kFinish,         // no FINISH, or instructions behind it
  kArgument,       // the caller's fault: overlay, segments, SIMD level
  kMemory,         // the host has no memory left
};
const char* FaultKindName(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kNone;
  std::int64_t instruction = -1;  // its number in the stream, -1 where none is to blame
  std::int64_t other = -1;        // the other instruction of a race, else -1
  std::string text;
};

// The part of an overlay that decides results; counts are rows of the memories.
struct Overlay {
  std::int32_t block_in, block_out;
  std::int32_t inp_bits, wgt_bits, acc_bits;
  std::int32_t act_half_words, wgt_tiles, acc_vectors, param_records, disp_entries;
  std::int32_t displacement_min, displacement_max;

  int half_word_bytes() const { return block_in * inp_bits / 8; }
  int tile_bytes() const { return block_in * block_out * wgt_bits / 8; }
};

// DRAM by base register: constants, workspace, inputs, outputs. Workspace and outputs are written, and count
// as uninitialised when a run starts.
struct Segment {
  std::uint8_t* data = nullptr;
  std::size_t size = 0;
};
using Segments = std::array<Segment, 4>;

struct Stats {
  std::array<std::int64_t, 4> instructions{};  // by unit: LOAD, MATRIX, VECTOR, STORE
  std::int64_t matrix_steps = 0;               // each is block_in * block_out MACs
  std::int64_t vector_reads = 0;               // half words, or halves of a vector, of the first operand
  std::int64_t dram_read_bytes = 0;            // by LOAD
  std::int64_t dram_write_bytes = 0;           // by STORE
  std::int64_t fetch_bytes = 0;                // of the stream
};

class Machine;

class Simulator {
 public:
  // Returns null and fills `fault` where the overlay cannot be.
  static std::unique_ptr<Simulator> Create(const Overlay& overlay, Fault* fault);
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  // Runs a stream from empty scratchpads. Returns false and fills `fault` at the first fault; outputs are
  // then unspecified. Throws only std::bad_alloc.
  bool Run(const std::uint8_t* stream, std::size_t size, const Segments& segments, Stats* stats,
           Fault* fault);

  // After a run: true for each byte of OUTPUT that a STORE wrote; `count` bytes from the first.
  void OutputWritten(bool* written, std::size_t count) const;

  // Uses another instruction set; returns false where the processor lacks it. Results are equal at all
  // levels.
  bool SetSimdLevel(SimdLevel level);
  SimdLevel simd_level() const;

 private:
  Simulator();
  std::unique_ptr<Machine> machine_;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SIMULATOR_H_
