// MATRIX in time: a step a cycle, but for tile changes and ACC's read-modify-write.
#ifndef TILEWRIGHT_SRC_TIMING_MATRIX_H_
#define TILEWRIGHT_SRC_TIMING_MATRIX_H_

#include <array>

#include "isa.h"
#include "timing_banks.h"

namespace tilewright {

class MatrixTimer {
 public:
  MatrixTimer(const TimingConfig& config, const Banks& banks) : c_(config), banks_(banks) {}

  bool active() const { return active_; }
  BankMask reach() const { return active_ ? reach_ : 0; }  // every bank that the instruction may read
  void Start(const isa::Matrix& i, std::int64_t now);

  // One cycle. `stepped` says whether a step was made; `last` whether it was the instruction's last.
  Activity Step(std::int64_t now, bool* stepped, bool* last);
  // Banks that the step just made has read.
  BankMask StepBanks() const { return step_banks_wanted_ ? Reads(read_) : 0; }
  // Banks that the next step will read.
  BankMask NextBanks() const { return Reads(count_); }
  Quiet Look(std::int64_t now) const;
  // Banks that the next steps may read; `always`: it is one, and each of them reads it.
  struct Span {
    BankMask banks;
    bool always;
    std::int64_t steps;
  };
  Span Run() const;  // those of the current run
  Span Row() const;  // those of the run's current row, where rows are read one after the other
  void Skip(std::int64_t now, const Quiet& what,
            std::int64_t cycles);  // at most what Look said, from `now` on

 private:
  struct Issue {
    std::int64_t time = -kNever, address = -1;
  };
  std::int64_t Earliest(Activity* why) const;
  using Counters = std::array<std::uint32_t, 6>;
  Span SpanOf(std::int64_t first_y, std::int64_t last_y, std::int64_t first_x, std::int64_t last_x) const;
  bool Clear() const;
  bool Smooth() const;
  std::int64_t Ahead(std::int64_t steps, Counters* count) const;
  std::int64_t Acc(const Counters& count) const;
  void Place();
  void Note(std::int64_t now);
  void Advance();
  BankMask Reads(const Counters& count) const;

  const TimingConfig& c_;
  const Banks& banks_;
  isa::Matrix i_{};
  bool active_ = false, step_banks_wanted_ = false;
  BankMask reach_ = 0;
  Counters n_{}, count_{}, read_{};  // counts, of the next step, and of the step just made
  int order_[6];
  int outer_ = 0;         // order_[outer_ ..] are y and x only (or count to 1): one tile, vectors that differ
  std::int64_t run_ = 1;  // steps of those
  std::int64_t position_ = 0, rest_ = 0;  // in the run; steps of the instruction to come
  bool smooth_ = false;  // no step waits for a step of the instruction but on its first tile
  std::int64_t tile_ = 0, held_ = -1, tile_ready_ = 0, acc_ = 0;
  Issue issued_[3];  // the last steps, the newest first
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_MATRIX_H_
