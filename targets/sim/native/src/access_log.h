// Who touched which row of a memory last: finds reads of rows never written, and races.
//
// Instructions are executed in stream order. Each has a number within its unit (from 1 up) and a vector
// clock: the number of the last instruction of each unit that is ordered before it. Tokens only point forward
// in the stream, so an earlier instruction can never be ordered *after* a later one, and two accesses race
// exactly when the earlier one's number is above the later one's clock for its unit. Units work in order, so
// the last access of each unit stands for all its earlier ones, and a row needs one number per unit and
// direction.
#ifndef TILEWRIGHT_SRC_ACCESS_LOG_H_
#define TILEWRIGHT_SRC_ACCESS_LOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tilewright {

inline constexpr int kUnits = 4;
enum Unit : int { kLoad = 0, kMatrix = 1, kVector = 2, kStore = 3 };

using Clock = std::array<std::int32_t, kUnits>;

struct Conflict {
  enum Type { kNone, kUninitialised, kRace, kOverlap } type = kNone;
  std::size_t row = 0;
  bool other_wrote = false;
  int unit = 0;             // of the other instruction of a race
  std::int32_t number = 0;  // its number within that unit
};

class AccessLog {
 public:
  // How messages name a row: "half word 7 of ACT"; `scale` is what a row counts, bytes of a DRAM granule.
  struct Label {
    const char* row = "";
    const char* memory = "";
    std::size_t scale = 1;
  };

  // Forgets everything. `writers` and `readers` are masks of the units that ever do so.
  void Reset(const Label& label, std::size_t rows, unsigned writers, unsigned readers);
  const Label& label() const { return label_; }

  // Log an access of the instruction with this clock (clock[unit] is its own number) to rows
  // first .. first+count-1. Return false and describe the first conflict.
  bool Read(int unit, const Clock& clock, std::size_t first, std::size_t count, Conflict* conflict);
  // A row written twice by one instruction is an overlap.
  bool Write(int unit, const Clock& clock, std::size_t first, std::size_t count, Conflict* conflict);

  // True where the instruction `number` of `unit` has written the row.
  bool WrittenBy(int unit, std::int32_t number, std::size_t row) const { return wrote_[unit][row] == number; }
  bool Initialised(std::size_t row) const { return initialised_[row] != 0; }
  std::size_t rows() const { return initialised_.size(); }

 private:
  bool Unordered(const std::array<std::vector<std::int32_t>, kUnits>& log, int unit, const Clock& clock,
                 std::size_t first, std::size_t count, bool wrote, Conflict* conflict) const;

  Label label_;
  std::vector<std::uint8_t> initialised_;
  std::array<std::vector<std::int32_t>, kUnits> wrote_;  // empty where the unit never writes
  std::array<std::vector<std::int32_t>, kUnits> read_;
};

// The rows {base + a + b + c : a, b, c each from a list of offsets}, as few contiguous runs as it takes.
class RunSet {
 public:
  using Offsets = std::vector<std::int64_t>;

  // Each list must not be empty. Lists are sorted and made unique.
  RunSet(std::int64_t base, Offsets a, Offsets b, Offsets c);

  std::int64_t last() const { return last_; }  // the largest row
  // Rows in all runs together: at least the number of distinct rows, at most the number of combinations.
  std::int64_t total() const {
    std::int64_t rows = length_;
    for (const Offsets& list : lists_) rows *= static_cast<std::int64_t>(list.size());
    return rows;
  }

  // Calls f(first, count) for each run until one returns false; returns whether all returned true.
  template <typename F>
  bool ForEach(F f) const {
    for (std::int64_t a : lists_[0])
      for (std::int64_t b : lists_[1])
        for (std::int64_t c : lists_[2])
          if (!f(static_cast<std::size_t>(base_ + a + b + c), static_cast<std::size_t>(length_)))
            return false;
    return true;
  }

 private:
  std::int64_t base_;
  std::int64_t length_ = 1;
  std::int64_t last_;
  std::array<Offsets, 3> lists_;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_ACCESS_LOG_H_
