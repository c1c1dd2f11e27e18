// What RunTiming refuses before it starts.
#ifndef TILEWRIGHT_SRC_TIMING_CHECK_H_
#define TILEWRIGHT_SRC_TIMING_CHECK_H_

#include <cstdint>

#include "tilewright/timing.h"

namespace tilewright {

// Returns false and fills `fault` where the tokens of a well-formed stream do not match.
bool CheckTimingTokens(const std::uint8_t* stream, std::int64_t count, Fault* fault);
// What is wrong with the figures, or null.
const char* TimingConfigFault(const TimingConfig& c);

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_CHECK_H_
