// Reads JSON (RFC 8259), as Python's json module does: NaN and Infinity are numbers, single surrogates are characters.
#ifndef TILEWRIGHT_JSON_H_
#define TILEWRIGHT_JSON_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tilewright::runtime {

struct Json {
  enum Kind { kNull, kBool, kInteger, kFloat, kString, kArray, kObject };
  Kind kind = kNull;
  bool truth = false;
  std::string text;  // of a number as it stands; of a string its characters, UTF-8 with surrogates as they come
  std::vector<Json> items;
  std::map<std::string, Json> members;  // the last of equal names counts

  // Throws Error TW_RT_PACKAGE "is not JSON: ..", before which stands `where`. With `keep` false only the outermost kind is
  // kept.
  static Json Parse(std::string_view text, const std::string& where, bool keep = true);
  // As Python's json.dumps(value, sort_keys=True, separators=(",", ":")) writes integers, strings, true, false and null.
  std::string Canonical() const;
};

const char* KindName(Json::Kind kind);  // Python's names: dict, list, ..

// Whether bytes are UTF-8 (RFC 3629): no surrogates, nothing longer than needed.
bool IsUtf8(std::string_view text);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_JSON_H_
