// What every function of the C interface does with exceptions.
#ifndef TILEWRIGHT_GUARD_H_
#define TILEWRIGHT_GUARD_H_

#include <algorithm>
#include <cstring>
#include <new>

#include "tilewright/runtime_error.h"

namespace tilewright::runtime {

inline std::int32_t Store(tw_rt_error* error, std::int32_t kind, const char* text) {
  error->kind = kind;
  std::size_t size = std::min(std::strlen(text), sizeof error->text - 1);
  // Do not end within a UTF-8 character.
  while (size > 0 && text[size] != 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  std::memcpy(error->text, text, size);
  error->text[size] = 0;
  return kind;
}

// Runs f and turns what it throws into kind and text.
template <typename F>
std::int32_t Guard(tw_rt_error* error, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return Store(error, e.kind, e.what());
  } catch (const std::bad_alloc&) {
    return Store(error, TW_RT_MEMORY, "no memory left");
  } catch (const std::exception& e) {
    return Store(error, TW_RT_INTERNAL, e.what());
  }
  return Store(error, TW_RT_OK, "");
}

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_GUARD_H_
