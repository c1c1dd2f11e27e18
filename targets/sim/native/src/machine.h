// State of the simulated machine, and one function for each kind of instruction.
#ifndef TILEWRIGHT_SRC_MACHINE_H_
#define TILEWRIGHT_SRC_MACHINE_H_

#include <cstdint>
#include <vector>

#include "access_log.h"
#include "isa.h"
#include "tilewright/simulator.h"
#include "tokens.h"

namespace tilewright {

// A lane pattern of one displacement entry: the lanes that read at (dy, dx).
struct Displacement {
  int dy, dx;
  std::vector<std::uint8_t> mask;  // 0xff for those lanes, block_in of them
};

// By base register.
inline constexpr const char* kSegmentNames[] = {"CONSTANT", "WORKSPACE", "INPUT", "OUTPUT"};

// What a packed copy of a tile in `Machine::packed` was made for; 0 is none.
using PackKey = std::uint32_t;

class Machine {
 public:
  explicit Machine(const Overlay& overlay);

  bool Run(const std::uint8_t* stream, std::size_t size, const Segments& segments, Stats* stats,
           Fault* fault);

  // After a run: whether granule `row` of OUTPUT, of dram_granule() bytes, was written.
  bool OutputWritten(std::size_t row) const {
    return row < dram_log_[3].rows() && dram_log_[3].Initialised(row);
  }
  int dram_granule() const { return dram_granule_; }

  SimdLevel level;

 private:
  friend class MatrixUnit;
  friend class VectorUnit;
  friend class CopyUnit;

  void Reset(const Segments& segments);
  bool Step(const std::uint8_t* bytes);
  template <typename UnitType, typename I>
  bool Execute(int unit, const I& instruction);
  bool Finish();

  // Fills the fault with the current instruction and returns false.
  bool Fail(FaultKind kind, const char* format, ...) __attribute__((format(printf, 3, 4)));
  // Check and log an access by the current instruction to rows of a memory.
  bool Read(AccessLog* log, std::size_t first, std::size_t count);
  bool Write(AccessLog* log, std::size_t first, std::size_t count);
  // Fails where `last`, the largest row that an instruction uses, is outside. `verb` is "reads" or "writes".
  bool CheckLast(const AccessLog& log, const char* verb, std::int64_t last);
  bool FailConflict(const Conflict& conflict, const AccessLog& log, const char* verb);

  const Overlay o_;
  // 1-bit values are bipolar for MATRIX. Held as 0 and 2, with 1 for "contributes nothing", they stay
  // unsigned: value - 1 is the bipolar value. `bipolar_` is also the left shift from a stored value to a held
  // one.
  const int bipolar_;
  const int out16_;         // block_out rounded up to 16, pitch of an ACC vector
  const int dram_granule_;  // bytes; every DRAM access is a multiple of it

  // Scratchpads. ACT has a byte for each lane, so that one kernel serves every width.
  std::vector<std::uint8_t> act_;
  std::vector<std::uint8_t> wgt_;  // tiles as they lie in DRAM
  std::vector<std::uint8_t> param_;
  std::vector<std::int32_t> acc_;  // modulo 2^32
  std::vector<std::vector<Displacement>> disp_;
  AccessLog act_log_, wgt_log_, param_log_, disp_log_, acc_log_;  // acc_log_: rows are the halves
  std::vector<std::uint8_t> acc_written_;                         // by vector
  // MATRIX's, kept from instruction to instruction: the last sum of each vector, counted on and on, and a panel.
  std::vector<std::uint32_t> acc_seen_;
  std::uint32_t acc_seen_last_ = 0;
  std::vector<std::int32_t> panel_;

  std::array<Segment, 4> segments_;
  std::array<AccessLog, 4> dram_log_;  // rows of dram_granule_ bytes

  // Tiles as the kernels read them, by kind of dot product; made at the first use after a LOAD.
  std::array<std::vector<std::int32_t>, 3> packed_;
  std::vector<PackKey> pack_key_;
  std::vector<std::int32_t> tile_sums_;  // [tile][out16], of bipolar weights

  Tokens tokens_;
  Stats* stats_ = nullptr;
  Fault* fault_ = nullptr;
  std::int64_t index_ = 0;  // of the current instruction
  int unit_ = 0;
  Clock clock_{};
};

// C++17 has no bit-exact way to say "reduce modulo 2^32" for signed ints; unsigned arithmetic has.
inline std::int32_t WrapAdd(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}
inline std::int32_t WrapSub(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
}
inline std::int32_t WrapMul(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b));
}

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_MACHINE_H_
