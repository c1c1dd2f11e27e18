// SHA-256 (FIPS 180-4).
#ifndef TILEWRIGHT_SHA256_H_
#define TILEWRIGHT_SHA256_H_

#include <array>
#include <cstdint>
#include <string>

namespace tilewright::runtime {

class Sha256 {
 public:
  void Add(const void* data, std::uint64_t size);
  // Ends the message.
  std::array<std::uint8_t, 32> Digest();

 private:
  void Block(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> rest_{};
  std::uint64_t size_ = 0;
};

std::array<std::uint8_t, 32> Sha256Of(const void* data, std::uint64_t size);
std::string Hex(const std::array<std::uint8_t, 32>& digest);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_SHA256_H_
