// Physically contiguous memory that an accelerator reads and writes: a mapped file, its cache maintenance, and who has
// which part of it.
#ifndef TILEWRIGHT_DEVICE_MEMORY_H_
#define TILEWRIGHT_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "device_uri.h"

namespace tilewright::runtime {

// A file descriptor that is closed with its owner.
class File {
 public:
  File() = default;
  // Throws Error TW_RT_DEVICE: "DEVICE: WHAT PATH cannot be opened: ...".
  File(const DeviceUri& uri, const char* what, const std::string& path, int flags);
  ~File();
  File(File&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  File& operator=(File&& other) noexcept;
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  bool regular() const;
  std::uint64_t size() const;  // of a regular file

 private:
  int fd_ = -1;
};

// Bytes of a file in memory, shared.
class Mapping {
 public:
  Mapping() = default;
  Mapping(const DeviceUri& uri, const char* what, const File& file, std::uint64_t offset, std::size_t size);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping& operator=(Mapping&& other) noexcept;
  std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

class DeviceMemory {
 public:
  explicit DeviceMemory(const DeviceUri& uri);

  std::uint64_t size() const { return mapping_.size(); }
  std::uint64_t physical(std::uint64_t offset) const { return physical_ + offset; }
  std::uint8_t* data(std::uint64_t offset) const { return mapping_.data() + offset; }
  // Whether programs may work on it directly: uncached memory wants whole aligned words.
  bool direct() const { return cache_ != Cache::kUncached; }

  // Whole words, so that uncached memory is spared. `bytes` is rounded up to 8; both sides have room for it.
  void Write(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes) const;
  void Read(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes) const;
  // What the CPU wrote becomes visible to the device; nothing of it is in the cache then.
  void ToDevice(std::uint64_t offset, std::uint64_t bytes) const;
  // What the device wrote becomes visible to the CPU.
  void ToCpu(std::uint64_t offset, std::uint64_t bytes) const;

  // First fit, multiples of registers::kAlignment. Returns false where no free part is large enough.
  bool Allocate(std::uint64_t bytes, std::uint64_t* offset);
  void Free(std::uint64_t offset);
  std::uint64_t free_bytes() const;
  std::uint64_t largest_free() const;

 private:
  enum class Cache { kNone, kSync, kUncached };
  void Sync(const File& file, std::uint64_t offset, std::uint64_t bytes, unsigned direction) const;

  Cache cache_ = Cache::kNone;
  std::uint64_t physical_ = 0;
  std::string uri_;
  File file_, sync_for_device_, sync_for_cpu_;
  Mapping mapping_;
  std::map<std::uint64_t, std::uint64_t> free_, used_;  // bytes by offset
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_DEVICE_MEMORY_H_
