#include "device_uri.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "tilewright/runtime_error.h"

namespace tilewright::runtime {
namespace {

struct Scheme {
  const char* name;
  std::vector<std::string> needed, optional;
};

const std::vector<Scheme>& Schemes() {
  static const std::vector<Scheme> schemes = {
      {"sim", {}, {}},
      {"zynq",
       {"registers", "memory"},
       {"bytes", "cache", "sysfs", "interrupt", "timeout_ms", "spin_us"}},
  };
  return schemes;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

bool Contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Decimal or 0x; false where it is none.
bool ParseNumber(const std::string& text, std::uint64_t* value) {
  const bool hex = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  const std::string digits = hex ? text.substr(2) : text;
  const std::string legal = hex ? "0123456789abcdefABCDEF" : "0123456789";
  if (digits.empty() || digits.size() > (hex ? 16u : 19u)) return false;
  if (digits.find_first_not_of(legal) != std::string::npos) return false;
  *value = std::stoull(digits, nullptr, hex ? 16 : 10);
  return true;
}

}  // namespace

DeviceUri DeviceUri::Parse(const std::string& text) {
  DeviceUri uri;
  uri.text = text;
  const std::size_t colon = text.find(':');
  uri.scheme = text.substr(0, colon);
  const auto& schemes = Schemes();
  const auto scheme =
      std::find_if(schemes.begin(), schemes.end(), [&](const Scheme& s) { return s.name == uri.scheme; });
  if (scheme == schemes.end()) {
    Fail(TW_RT_URI, "unknown device ", text, ", expected sim or zynq:registers=PATH,memory=PATH");
  }
  std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string item = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const std::size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    if (!Contains(scheme->needed, key) && !Contains(scheme->optional, key)) {
      std::vector<std::string> known = scheme->needed;
      known.insert(known.end(), scheme->optional.begin(), scheme->optional.end());
      Fail(TW_RT_URI, "device ", text, ": unknown key ", key, ", known are ", known.empty() ? "none" : Joined(known));
    }
    if (equals == std::string::npos || equals + 1 == item.size()) {
      Fail(TW_RT_URI, "device ", text, ": expected a value behind ", key, "=");
    }
    if (!uri.values.emplace(key, item.substr(equals + 1)).second) {
      Fail(TW_RT_URI, "device ", text, ": ", key, " is given twice");
    }
  }
  for (const std::string& key : scheme->needed) {
    if (uri.values.count(key) == 0) Fail(TW_RT_URI, "device ", text, ": ", key, "= is missing");
  }
  return uri;
}

std::string DeviceUri::Text(const std::string& key) const {
  const auto found = values.find(key);
  return found == values.end() ? "" : found->second;
}

std::uint64_t DeviceUri::Number(const std::string& key, std::uint64_t otherwise, std::uint64_t most) const {
  const auto found = values.find(key);
  if (found == values.end()) return otherwise;
  std::uint64_t value = 0;
  if (!ParseNumber(found->second, &value) || value > most) {
    Fail(TW_RT_URI, "device ", text, ": expected a number of 0 to ", most, " for ", key, ", found ", found->second);
  }
  return value;
}

PathAt PathAt::Parse(const DeviceUri& uri, const std::string& key) {
  PathAt result;
  const std::string value = uri.Text(key);
  const std::size_t at = value.rfind('@');
  result.path = value.substr(0, at);
  if (at != std::string::npos) {
    result.has_number = true;
    if (!ParseNumber(value.substr(at + 1), &result.number)) {
      Fail(TW_RT_URI, "device ", uri.text, ": expected a number behind @ of ", key, ", found ", value.substr(at + 1));
    }
  }
  return result;
}

}  // namespace tilewright::runtime
