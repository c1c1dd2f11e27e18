// VECTOR in time: reads of windows, channel parameters, results.
#ifndef TILEWRIGHT_SRC_TIMING_VECTOR_H_
#define TILEWRIGHT_SRC_TIMING_VECTOR_H_

#include <vector>

#include "fifo.h"
#include "isa.h"
#include "timing_banks.h"

namespace tilewright {

class VectorTimer {
 public:
  VectorTimer(const TimingConfig& config, const Banks& banks) : c_(config), banks_(banks) {}

  bool active() const { return active_; }
  BankMask reads() const { return active_ ? reads_ : 0; }  // every bank that the instruction may read
  BankMask writes() const { return active_ ? writes_ : 0; }
  // When the last result so far is written.
  std::int64_t written() const { return written_; }
  bool Starts(const isa::Vector& i, std::int64_t now) const {
    return !active_ && (!i.table || now > written_);
  }
  void Start(const isa::Vector& i, std::int64_t now);

  // One cycle; `taken` are banks that MATRIX reads in it. `read` gets the banks that VECTOR reads.
  Activity Step(std::int64_t now, BankMask taken, BankMask* read, bool* last);
  // Banks that it would read in cycle `now`, where it waits for nobody.
  BankMask NextBanks(std::int64_t now) const { return now < ready_ ? 0 : Address(); }
  // Banks that are written in cycle `now`; asked for in order.
  BankMask Written(std::int64_t now);
  BankMask due(std::int64_t now) {  // what Written may still say
    Forget(now);
    return pending_.empty() ? 0 : pending_reach_;
  }
  Quiet Look(std::int64_t now, bool conflicts) const;
  // Cycles of the write port for the results that one read completes, at most.
  std::int64_t writing() const { return writing_; }
  void Skip(std::int64_t now, std::int64_t cycles);  // at most what Look said, from `now` on

 private:
  struct Column {          // of a source row
    std::int64_t x;        // its coordinate
    std::int64_t result;   // first result that it completes
    std::int64_t results;  // how many
  };
  struct Write {
    std::int64_t time;
    BankMask banks;
  };
  void MakeColumns();
  void EnterGroup(std::int64_t now);
  void EnterRow();
  std::int64_t TapRows(std::int64_t y) const;
  int Size(std::uint32_t first) const;
  std::int64_t LoadCycles(std::uint32_t first, int size) const;
  std::int64_t ReadsOf(std::size_t column) const;
  bool second(std::size_t column) const;
  BankMask Address() const;
  BankMask Halves(std::int64_t a) const { return banks_.One(a) | (size_ == 2 ? banks_.One(a + 1) : 0); }
  void Finish(std::int64_t now);
  void Forget(std::int64_t now) {
    while (!pending_.empty() && pending_.front().time < now) pending_.pop_front();
  }

  const TimingConfig& c_;
  const Banks& banks_;
  isa::Vector i_{};
  bool active_ = false, two_ = false, pairs_ = false, flows_ = false;
  BankMask reads_ = 0, writes_ = 0;
  std::vector<Column> columns_;
  std::vector<std::int64_t> rows_;  // coordinates that the current row of results reads
  std::int64_t passes_ = 1, narrow_ = 1, result_cycles_ = 1, writing_ = 1;
  std::uint32_t c_first_ = 0, y_ = 0;
  int size_ = 1;  // half words of channels at once
  std::size_t column_ = 0;
  std::int64_t read_ = 0;  // within the column
  std::int64_t ready_ = 0, params_ready_ = 0, result_free_ = 0, written_ = -1;
  Activity waiting_ = Activity::kStart;
  Fifo<Write> pending_;
  BankMask pending_reach_ = 0;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_VECTOR_H_
