// Finds where a long LOAD repeats itself: bursts of one size, each when the last but a few has come.
#ifndef TILEWRIGHT_SRC_TIMING_PERIOD_H_
#define TILEWRIGHT_SRC_TIMING_PERIOD_H_

#include <vector>

#include "timing_dma.h"

namespace tilewright {

class Period {
 public:
  void Forget() { known_ = false; }
  // Asked for after each cycle that requested a burst; `reads`: beats so far. Goes on by as many periods as end
  // before `until`; returns their cycles, and adds their bursts and beats.
  std::int64_t Leap(std::int64_t now, std::int64_t until, Dram* dram, LoadTimer* load, std::int64_t* bursts,
                    std::int64_t* reads) {
    const std::int64_t left = load->Uniform();
    ++requests_;
    if (left == 0) {
      known_ = false;
      return 0;
    }
    if (known_ && dram->credit() == credit_) {
      Note(now, *dram, *load, &state_);
      if (state_ == first_) {
        const std::int64_t cycles = now - time_, each = requests_, beats = *reads - reads_;
        const std::int64_t count = std::min({(until - now) / cycles, left / each, load->Rest(each)});
        known_ = false;
        if (count <= 0) return 0;
        dram->Delay(count * cycles);
        load->Leap(count * each, count * cycles);
        *bursts += count * each;
        *reads += count * beats;
        return count * cycles;
      }
    }
    if (!known_ || requests_ >= kLongest) {
      Note(now, *dram, *load, &first_);
      known_ = true;
      credit_ = dram->credit();
      time_ = now;
      requests_ = 0;
      reads_ = *reads;
    }
    return 0;
  }

 private:
  static constexpr std::int64_t kLongest = 12;  // bursts of a period that is looked for
  static void Note(std::int64_t now, const Dram& dram, const LoadTimer& load,
                   std::vector<std::int64_t>* state) {
    state->clear();
    dram.Note(now, state);
    load.Note(now, state);
  }

  bool known_ = false;
  std::vector<std::int64_t> first_, state_;
  std::int64_t credit_ = 0, time_ = 0, requests_ = 0, reads_ = 0;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_PERIOD_H_
