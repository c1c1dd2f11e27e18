#include "device_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "tilewright/registers.h"
#include "tilewright/runtime_error.h"

namespace tilewright::runtime {
namespace {

constexpr const char* kClasses[] = {"/sys/class/u-dma-buf/", "/sys/class/udmabuf/"};
constexpr std::uint64_t kMostPhysical = std::uint64_t{1} << 48;

std::uint64_t RoundUp(std::uint64_t bytes, std::uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

// A number in a file of sysfs, decimal or 0x; false where there is no such file or number.
bool ReadNumber(const std::string& path, std::uint64_t* value) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return false;
  try {
    *value = std::stoull(text, nullptr, 0);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The folder of a u-dma-buf's attributes, empty where `path` is none.
std::string AttributeFolder(const DeviceUri& uri, const std::string& path) {
  const std::string given = uri.Text("sysfs");
  if (!given.empty()) return given;
  std::uint64_t ignored;
  for (const char* kind : kClasses) {
    const std::string folder = kind + BaseName(path);
    if (ReadNumber(folder + "/phys_addr", &ignored)) return folder;
  }
  return "";
}

}  // namespace

File::File(const DeviceUri& uri, const char* what, const std::string& path, int flags)
    : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
  if (fd_ < 0) {
    Fail(TW_RT_DEVICE, "device ", uri.text, ": ", what, " ", path, " cannot be opened: ", std::strerror(errno));
  }
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

bool File::regular() const {
  struct stat status;
  return ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode);
}

std::uint64_t File::size() const {
  struct stat status;
  return ::fstat(fd_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

Mapping::Mapping(const DeviceUri& uri, const char* what, const File& file, std::uint64_t offset, std::size_t size)
    : size_(size) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (offset % page != 0) {
    Fail(TW_RT_URI, "device ", uri.text, ": expected a multiple of ", page, " behind @ of ", what, ", found ", offset);
  }
  // A page behind the end of a file would be a SIGBUS at the first access.
  if (file.regular() && (file.size() < size || file.size() - size < offset)) {
    Fail(TW_RT_DEVICE, "device ", uri.text, ": expected ", size, " bytes of ", what, " at ", offset,
         ", the file has ", file.size());
  }
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), static_cast<off_t>(offset));
  if (data == MAP_FAILED) {
    Fail(TW_RT_DEVICE, "device ", uri.text, ": ", size, " bytes of ", what, " cannot be mapped: ", std::strerror(errno));
  }
  data_ = static_cast<std::uint8_t*>(data);
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

DeviceMemory::DeviceMemory(const DeviceUri& uri) : uri_(uri.text) {
  const PathAt memory = PathAt::Parse(uri, "memory");
  const std::string folder = AttributeFolder(uri, memory.path);
  const bool raw = memory.path == "/dev/mem";
  std::uint64_t coherent = 0;
  if (raw) {
    cache_ = Cache::kUncached;
  } else if (!folder.empty()) {
    ReadNumber(folder + "/dma_coherent", &coherent);  // older drivers have no such file, and no such memory
    cache_ = coherent != 0 ? Cache::kNone : Cache::kSync;
  }
  const std::string asked = uri.Text("cache");
  if (!asked.empty()) {
    if (asked != "none" && asked != "sync" && asked != "uncached") {
      Fail(TW_RT_URI, "device ", uri.text, ": expected cache=none, sync or uncached, found ", asked);
    }
    cache_ = asked == "none" ? Cache::kNone : asked == "sync" ? Cache::kSync : Cache::kUncached;
  }
  if (cache_ == Cache::kSync && folder.empty()) {
    Fail(TW_RT_URI, "device ", uri.text, ": cache=sync needs a u-dma-buf, and ", memory.path, " is none; give sysfs=DIR");
  }
  if (raw && folder.empty() && (!memory.has_number || uri.values.count("bytes") == 0)) {
    Fail(TW_RT_URI, "device ", uri.text, ": memory=/dev/mem needs @PHYSICAL and bytes=");
  }
  file_ = File(uri, "memory", memory.path, O_RDWR | (cache_ == Cache::kUncached ? O_SYNC : 0));
  physical_ = memory.number;
  std::uint64_t bytes = 0;
  if (!folder.empty()) {
    std::uint64_t physical = 0;
    if (!ReadNumber(folder + "/phys_addr", &physical) || !ReadNumber(folder + "/size", &bytes)) {
      Fail(TW_RT_DEVICE, "device ", uri.text, ": ", folder, " has no phys_addr and size: is it a u-dma-buf's?");
    }
    if (!memory.has_number) physical_ = physical;
  } else if (file_.regular()) {
    bytes = file_.size();
  }
  bytes = uri.Number("bytes", bytes, kMostPhysical);
  if (physical_ % registers::kAlignment != 0 || physical_ >= kMostPhysical) {
    Fail(TW_RT_URI, "device ", uri.text, ": expected a physical address below 2^48 that is a multiple of ",
         registers::kAlignment, " for the memory, found ", physical_);
  }
  bytes = bytes / registers::kAlignment * registers::kAlignment;
  if (bytes == 0 || bytes > SIZE_MAX / 2) {
    Fail(TW_RT_DEVICE, "device ", uri.text, ": ", memory.path, " has ", bytes, " usable bytes; give bytes=");
  }
  if (cache_ == Cache::kSync) {
    sync_for_device_ = File(uri, "cache maintenance", folder + "/sync_for_device", O_WRONLY);
    sync_for_cpu_ = File(uri, "cache maintenance", folder + "/sync_for_cpu", O_WRONLY);
  }
  mapping_ = Mapping(uri, "memory", file_, raw ? physical_ : 0, static_cast<std::size_t>(bytes));
  free_[0] = bytes;
}

void DeviceMemory::Write(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes) const {
  if (direct()) {
    std::memcpy(data(offset), from, static_cast<std::size_t>(bytes));
    return;
  }
  auto* to = reinterpret_cast<volatile std::uint32_t*>(data(offset));
  for (std::uint64_t i = 0; i < bytes; i += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, from + i, static_cast<std::size_t>(std::min<std::uint64_t>(4, bytes - i)));
    to[i / 4] = word;
  }
}

void DeviceMemory::Read(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes) const {
  if (direct()) {
    std::memcpy(to, data(offset), static_cast<std::size_t>(bytes));
    return;
  }
  const auto* from = reinterpret_cast<const volatile std::uint32_t*>(data(offset));
  for (std::uint64_t i = 0; i < bytes; i += 4) {
    const std::uint32_t word = from[i / 4];
    std::memcpy(to + i, &word, static_cast<std::size_t>(std::min<std::uint64_t>(4, bytes - i)));
  }
}

// One write does it all: offset in the upper half; size, a multiple of 16, the direction in bits 2 and 3 (0 both ways, 1 to
// the device, 2 from it) and 1 in the lower (Readme of u-dma-buf, "sync_for_cpu").
void DeviceMemory::Sync(const File& file, std::uint64_t offset, std::uint64_t bytes, unsigned direction) const {
  if (cache_ != Cache::kSync || bytes == 0) return;
  char text[32];
  const std::uint64_t size = RoundUp(bytes, registers::kAlignment);
  const int length = std::snprintf(text, sizeof text, "0x%08llx%08llx\n", static_cast<unsigned long long>(offset),
                                   static_cast<unsigned long long>(size | direction << 2 | 1));
  if (::write(file.fd(), text, static_cast<std::size_t>(length)) != length) {
    Fail(TW_RT_DEVICE, "device ", uri_, ": the cache cannot be maintained: ", std::strerror(errno));
  }
}

void DeviceMemory::ToDevice(std::uint64_t offset, std::uint64_t bytes) const { Sync(sync_for_device_, offset, bytes, 0); }
void DeviceMemory::ToCpu(std::uint64_t offset, std::uint64_t bytes) const { Sync(sync_for_cpu_, offset, bytes, 2); }

bool DeviceMemory::Allocate(std::uint64_t bytes, std::uint64_t* offset) {
  const std::uint64_t size = std::max<std::uint64_t>(RoundUp(bytes, registers::kAlignment), registers::kAlignment);
  for (auto part = free_.begin(); part != free_.end(); ++part) {
    if (part->second < size) continue;
    *offset = part->first;
    const std::uint64_t rest = part->second - size;
    free_.erase(part);
    if (rest > 0) free_[*offset + size] = rest;
    used_[*offset] = size;
    return true;
  }
  return false;
}

void DeviceMemory::Free(std::uint64_t offset) {
  const auto used = used_.find(offset);
  if (used == used_.end()) return;
  auto part = free_.emplace(*used).first;
  used_.erase(used);
  const auto next = std::next(part);
  if (next != free_.end() && part->first + part->second == next->first) {
    part->second += next->second;
    free_.erase(next);
  }
  if (part != free_.begin()) {
    const auto before = std::prev(part);
    if (before->first + before->second == part->first) {
      before->second += part->second;
      free_.erase(part);
    }
  }
}

std::uint64_t DeviceMemory::free_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& part : free_) sum += part.second;
  return sum;
}

std::uint64_t DeviceMemory::largest_free() const {
  std::uint64_t most = 0;
  for (const auto& part : free_) most = std::max(most, part.second);
  return most;
}

}  // namespace tilewright::runtime
