// ACT as the timing simulator sees it: which bank a half word lies in.
#ifndef TILEWRIGHT_SRC_TIMING_BANKS_H_
#define TILEWRIGHT_SRC_TIMING_BANKS_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "tilewright/timing.h"

namespace tilewright {

using BankMask = std::uint64_t;
inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max() / 4;

inline constexpr int kReadPorts = 4;  // of DRAM, at most

class Banks {
 public:
  explicit Banks(const TimingConfig& c) : half_words_(c.act_half_words) {
    while ((std::int64_t{1} << pair_) < 2 * 2048 * 8 / c.inp_bits) ++pair_;
  }

  // The bank of a half word; none for an address outside, which the functional simulators refuse.
  BankMask One(std::int64_t a) const {
    if (a < 0 || a >= half_words_) return 0;
    return BankMask{1} << (2 * (a >> pair_) + (a & 1));
  }
  // Both banks of the pairs from that of `lo` to that of `hi`.
  BankMask Pairs(std::int64_t lo, std::int64_t hi) const {
    BankMask mask = 0;
    hi = std::min(hi, half_words_ - 1);
    for (std::int64_t p = std::max<std::int64_t>(lo, 0) >> pair_; p << pair_ <= hi; ++p)
      mask |= BankMask{3} << (2 * p);
    return mask;
  }

 private:
  std::int64_t half_words_;
  int pair_ = 0;  // half words of a pair of banks, log2
};

// What a unit will do until something changes: `cycles` of the same kind, kNever where only others can wake
// it.
struct Quiet {
  std::int64_t cycles;
  Activity activity;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_BANKS_H_
