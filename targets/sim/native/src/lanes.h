// Half words and weights between their packed form (DRAM) and a byte for each lane.
#ifndef TILEWRIGHT_SRC_LANES_H_
#define TILEWRIGHT_SRC_LANES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tilewright {

// Lane 0 lowest; `count` lanes of `bits` (1, 2, 4, 8), each shifted left by `shift`.
inline void UnpackLanes(const std::uint8_t* from, std::uint8_t* to, std::size_t count, int bits, int shift) {
  if (bits == 8) {
    std::memcpy(to, from, count);
  } else if (bits == 4) {
    for (std::size_t i = 0; i < count / 2; ++i) {
      to[2 * i] = from[i] & 15;
      to[2 * i + 1] = from[i] >> 4;
    }
  } else {
    const std::size_t per_byte = 8 / static_cast<std::size_t>(bits);
    const int mask = (1 << bits) - 1;
    for (std::size_t i = 0; i < count / per_byte; ++i)
      for (std::size_t j = 0; j < per_byte; ++j)
        to[i * per_byte + j] =
            static_cast<std::uint8_t>((from[i] >> (j * static_cast<std::size_t>(bits)) & mask) << shift);
  }
}

inline void PackLanes(const std::uint8_t* from, std::uint8_t* to, std::size_t count, int bits, int shift) {
  if (bits == 8) {
    std::memcpy(to, from, count);
    return;
  }
  const std::size_t per_byte = 8 / static_cast<std::size_t>(bits);
  for (std::size_t i = 0; i < count / per_byte; ++i) {
    unsigned byte = 0;
    for (std::size_t j = 0; j < per_byte; ++j)
      byte |= static_cast<unsigned>(from[i * per_byte + j] >> shift) << (j * static_cast<std::size_t>(bits));
    to[i] = static_cast<std::uint8_t>(byte);
  }
}

// to |= from & mask; `count` is a multiple of 8.
inline void MixLanes(std::uint8_t* to, const std::uint8_t* from, const std::uint8_t* mask, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    std::uint64_t mixed, lanes, chosen;
    std::memcpy(&mixed, to + i, 8);
    std::memcpy(&lanes, from + i, 8);
    std::memcpy(&chosen, mask + i, 8);
    mixed |= lanes & chosen;
    std::memcpy(to + i, &mixed, 8);
  }
}

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_LANES_H_
