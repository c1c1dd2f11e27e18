#include "json.h"

#include <cstdint>
#include <cstring>

#include "tilewright/runtime_error.h"

namespace tilewright::runtime {
namespace {

// Documents nest less deep; a stack is not endless.
constexpr int kMostDepth = 200;

// The character at `*at` and the bytes it takes; -1 where it is no UTF-8. `surrogates`: take encoded ones too.
std::int32_t Character(std::string_view text, std::size_t* at, bool surrogates) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(*at);
  if (first < 0x80) return ++*at, static_cast<std::int32_t>(first);
  const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4 || text.size() - *at <= static_cast<std::size_t>(more)) return -1;
  std::int32_t value = static_cast<std::int32_t>(first & (0x3Fu >> more));
  for (int i = 1; i <= more; ++i) {
    const unsigned next = byte(*at + static_cast<std::size_t>(i));
    if ((next & 0xC0) != 0x80) return -1;
    value = value << 6 | static_cast<std::int32_t>(next & 0x3F);
  }
  const std::int32_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < least || value > 0x10FFFF || (surrogate && !surrogates)) return -1;
  *at += static_cast<std::size_t>(more) + 1;
  return value;
}

void Append(std::string* to, std::int32_t c) {
  const auto put = [to](std::int32_t value) { to->push_back(static_cast<char>(value)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& where, bool keep) : text_(text), where_(where), keep_(keep) {}

  Json Document() {
    if (!IsUtf8(text_)) Refuse("expected UTF-8");
    Json value = Value(0);
    Blank();
    if (at_ < text_.size()) Refuse("something follows");
    return value;
  }

 private:
  [[noreturn]] void Refuse(const char* why) const { Fail(TW_RT_PACKAGE, where_, ": is not JSON: ", why, " at byte ", at_); }

  void Blank() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != 0) ++at_;
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json Value(int depth) {
    if (depth > kMostDepth) Refuse("nested too deep");
    Blank();
    Json value;
    if (Peek() == '{') return Object(depth);
    if (Peek() == '[') return Array(depth);
    if (Peek() == '"') {
      value.kind = Json::kString;
      value.text = String();
    } else if (Take("true") || Take("false")) {
      value.kind = Json::kBool;
      value.truth = text_[at_ - 2] == 'u';
    } else if (Take("NaN") || Take("Infinity") || Take("-Infinity")) {
      value.kind = Json::kFloat;
    } else if (!Take("null")) {
      Number(&value);
    }
    return value;
  }

  Json Object(int depth) {
    Json object;
    object.kind = Json::kObject;
    ++at_;
    Blank();
    if (Take("}")) return object;
    for (;;) {
      Blank();
      if (Peek() != '"') Refuse("expected a name");
      std::string name = String();
      Blank();
      if (!Take(":")) Refuse("expected ':'");
      Json value = Value(depth + 1);
      if (keep_) object.members[std::move(name)] = std::move(value);
      Blank();
      if (Take("}")) return object;
      if (!Take(",")) Refuse("expected ',' or '}'");
    }
  }

  Json Array(int depth) {
    Json array;
    array.kind = Json::kArray;
    ++at_;
    Blank();
    if (Take("]")) return array;
    for (;;) {
      Json value = Value(depth + 1);
      if (keep_) array.items.push_back(std::move(value));
      Blank();
      if (Take("]")) return array;
      if (!Take(",")) Refuse("expected ',' or ']'");
    }
  }

  std::int32_t Hex4() {
    std::int32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = Peek();
      const char* digits = "0123456789abcdef";
      const char* found = c == 0 ? nullptr : std::strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c);
      if (found == nullptr) Refuse("expected 4 hexadecimal digits");
      value = value << 4 | static_cast<std::int32_t>(found - digits);
    }
    return value;
  }

  std::string String() {
    std::string text;
    for (++at_;;) {
      if (at_ >= text_.size()) Refuse("a text has no end");
      const char c = text_[at_++];
      if (c == '"') return text;
      if (static_cast<unsigned char>(c) < 0x20) Refuse("a control character in a text");
      if (c != '\\') {
        text.push_back(c);
        continue;
      }
      const char escape = Peek();
      ++at_;
      if (escape == 'u') {
        std::int32_t value = Hex4();
        if (value >= 0xD800 && value <= 0xDBFF && text_.substr(at_, 2) == "\\u") {
          const std::size_t back = at_;
          at_ += 2;
          const std::int32_t low = Hex4();
          if (low >= 0xDC00 && low <= 0xDFFF) {
            value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
          } else {
            at_ = back;
          }
        }
        Append(&text, value);
        continue;
      }
      const char* from = "\"\\/bfnrt";
      const char* found = escape == 0 ? nullptr : std::strchr(from, escape);
      if (found == nullptr) Refuse("an unknown escape");
      text.push_back("\"\\/\b\f\n\r\t"[found - from]);
    }
  }

  bool Digits() {
    const std::size_t begin = at_;
    while (Peek() >= '0' && Peek() <= '9') ++at_;
    return at_ > begin;
  }

  void Number(Json* value) {
    const std::size_t begin = at_;
    Take("-");
    if (!Take("0") && !Digits()) Refuse("expected a value");
    value->kind = Json::kInteger;
    if (Peek() == '.') {
      ++at_;
      if (!Digits()) Refuse("expected digits");
      value->kind = Json::kFloat;
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (!Take("+")) Take("-");
      if (!Digits()) Refuse("expected digits");
      value->kind = Json::kFloat;
    }
    value->text = text_.substr(begin, at_ - begin);
    if (value->text == "-0") value->text = "0";
  }

  std::string_view text_;
  const std::string& where_;
  bool keep_;
  std::size_t at_ = 0;
};

std::string Quoted(const std::string& text) {
  const auto escape = [](std::int32_t unit) {
    std::string out = "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += "0123456789abcdef"[unit >> shift & 15];
    return out;
  };
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const std::int32_t c = Character(text, &at, true);
    constexpr char kEscaped[] = "\"\\\b\f\n\r\t", kLetters[] = "\"\\bfnrt";
    const char* found = c > 0 && c < 0x80 ? std::strchr(kEscaped, c) : nullptr;
    if (found != nullptr) {
      out += '\\';
      out += kLetters[found - kEscaped];
    } else if (c >= 0x20 && c < 0x7F) {
      out += static_cast<char>(c);
    } else if (c < 0x10000) {
      out += escape(c);
    } else {
      out += escape(0xD800 + ((c - 0x10000) >> 10));
      out += escape(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }
  return out + "\"";
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (Character(text, &at, false) < 0) return false;
  }
  return true;
}

const char* KindName(Json::Kind kind) {
  constexpr const char* kNames[] = {"NoneType", "bool", "int", "float", "str", "list", "dict"};
  return kNames[kind];
}

Json Json::Parse(std::string_view text, const std::string& where, bool keep) {
  return Parser(text, where, keep).Document();
}

std::string Json::Canonical() const {
  std::string out;
  switch (kind) {
    case kNull:
      return "null";
    case kBool:
      return truth ? "true" : "false";
    case kInteger:
    case kFloat:
      return text;
    case kString:
      return Quoted(text);
    case kArray:
      for (const Json& item : items) out += (out.empty() ? "" : ",") + item.Canonical();
      return "[" + out + "]";
    case kObject:
      for (const auto& [name, value] : members) out += (out.empty() ? "" : ",") + Quoted(name) + ":" + value.Canonical();
      return "{" + out + "}";
  }
  return out;
}

}  // namespace tilewright::runtime
