// The runtime's one exception. It never crosses the C interface: capi.cc turns it into kind and text.
#ifndef TILEWRIGHT_RUNTIME_ERROR_H_
#define TILEWRIGHT_RUNTIME_ERROR_H_

#include <sstream>
#include <stdexcept>
#include <string>

#include "tilewright/runtime_c.h"

namespace tilewright::runtime {

class Error : public std::runtime_error {
 public:
  Error(tw_rt_kind kind, const std::string& text) : std::runtime_error(text), kind(kind) {}
  tw_rt_kind kind;
};

template <typename... Parts>
[[noreturn]] void Fail(tw_rt_kind kind, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(kind, text.str());
}

template <typename... Parts>
void Require(bool condition, const Parts&... parts) {
  if (!condition) Fail(TW_RT_PACKAGE, parts...);
}

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_RUNTIME_ERROR_H_
