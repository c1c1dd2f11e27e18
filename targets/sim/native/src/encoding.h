// Whether bytes are a stream of instructions; the same for every simulator.
#ifndef TILEWRIGHT_SRC_ENCODING_H_
#define TILEWRIGHT_SRC_ENCODING_H_

#include <cstddef>
#include <cstdint>

#include "tilewright/simulator.h"

namespace tilewright {

// Every instruction is well formed, and the last one and only it is FINISH. Returns false and fills `fault`.
bool CheckStream(const std::uint8_t* stream, std::size_t size, Fault* fault);

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_ENCODING_H_
