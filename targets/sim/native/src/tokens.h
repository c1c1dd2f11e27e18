// Dependence tokens and the vector clocks that follow from them.
#ifndef TILEWRIGHT_SRC_TOKENS_H_
#define TILEWRIGHT_SRC_TOKENS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "access_log.h"

namespace tilewright {

// Counters in stream order: the k-th give of a pair must come before its k-th wait.
class Tokens {
 public:
  void Reset();

  // Starts an instruction of `unit` that waits for the units in `wait`. Returns the unit without a token, or
  // -1.
  int Begin(int unit, std::uint32_t wait, std::int64_t index, Clock* clock);
  // Gives `clock` to the units in `give`. Returns the unit whose counter would pass 255, or -1.
  int End(int unit, std::uint32_t give, const Clock& clock);

  std::int64_t count(int from, int to) const { return static_cast<std::int64_t>(pairs_[from][to].count); }
  std::int64_t IndexOf(int unit, std::int32_t number) const {
    return index_[static_cast<std::size_t>(unit)][static_cast<std::size_t>(number) - 1];
  }

 private:
  struct Pair {  // a ring of the clocks of gives not yet waited for
    std::vector<Clock> clocks;
    std::size_t first = 0, count = 0;
  };
  std::array<std::array<Pair, kUnits>, kUnits> pairs_;
  std::array<Clock, kUnits> last_;
  std::array<std::vector<std::int64_t>, kUnits> index_;  // number within the unit - 1 -> instruction
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TOKENS_H_
