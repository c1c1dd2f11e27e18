// Little-endian records with every bound checked; the counterpart of targets/binary.py.
#ifndef TILEWRIGHT_READER_H_
#define TILEWRIGHT_READER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "json.h"
#include "tilewright/runtime_error.h"

namespace tilewright::runtime {

class Reader {
 public:
  Reader(const std::uint8_t* data, std::uint64_t size, const char* what) : data_(data), size_(size), what_(what) {}

  const std::uint8_t* Raw(std::uint64_t size) {
    Require(size <= size_ - at_, what_, ": expected ", size, " more bytes at byte ", at_, ", found ", size_ - at_);
    at_ += size;
    return data_ + (at_ - size);
  }

  template <typename T>
  T Number() {
    // Bytes are put together by hand, so the host's byte order does not matter.
    const std::uint8_t* bytes = Raw(sizeof(T));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
    return static_cast<T>(value);
  }

  double Double() {
    const auto bits = Number<std::uint64_t>();
    double value;
    static_assert(sizeof value == sizeof bits);
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  std::string Text() {
    const auto size = Number<std::uint16_t>();
    std::string text(reinterpret_cast<const char*>(Raw(size)), size);
    Require(IsUtf8(text), what_, ": expected UTF-8 before byte ", at_);
    return text;
  }

  // A u32 count of items of at least `least` bytes each: a count that the rest cannot hold is refused before
  // memory is reserved for it.
  std::uint32_t Count(std::uint64_t least) {
    const auto count = Number<std::uint32_t>();
    Require(count <= (size_ - at_) / least, what_, ": a list of ", count, " items at byte ", at_, " passes the end");
    return count;
  }

  template <typename T>
  std::vector<T> Array() {
    std::vector<T> values(Count(sizeof(T)));
    for (T& value : values) value = Number<T>();
    return values;
  }

  void Expect(const char* magic, std::uint64_t size) {
    Require(std::memcmp(Raw(size), magic, size) == 0, what_, ": wrong magic or version");
  }

  void End() const { Require(at_ == size_, what_, ": expected its end at byte ", at_, ", found ", size_, " bytes"); }

 private:
  const std::uint8_t* data_;
  std::uint64_t size_;
  const char* what_;
  std::uint64_t at_ = 0;
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_READER_H_
