// The text that names a device; device.h tells its form.
#ifndef TILEWRIGHT_DEVICE_URI_H_
#define TILEWRIGHT_DEVICE_URI_H_

#include <cstdint>
#include <map>
#include <string>

namespace tilewright::runtime {

struct DeviceUri {
  std::string text, scheme;
  std::map<std::string, std::string> values;

  // Throws Error TW_RT_URI, naming what is unknown, missing or given twice.
  static DeviceUri Parse(const std::string& text);
  // Empty where it was not given.
  std::string Text(const std::string& key) const;
  // Throws Error TW_RT_URI where it is no number of 0 to `most`.
  std::uint64_t Number(const std::string& key, std::uint64_t otherwise, std::uint64_t most) const;
};

// PATH[@NUMBER].
struct PathAt {
  std::string path;
  bool has_number = false;
  std::uint64_t number = 0;

  static PathAt Parse(const DeviceUri& uri, const std::string& key);
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_DEVICE_URI_H_
