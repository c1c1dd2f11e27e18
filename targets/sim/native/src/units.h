// The units: each executes one instruction, checks first. Execute returns false after Machine::Fail.
#ifndef TILEWRIGHT_SRC_UNITS_H_
#define TILEWRIGHT_SRC_UNITS_H_

#include "machine.h"

namespace tilewright {

class CopyUnit {
 public:
  explicit CopyUnit(Machine* m) : m_(*m) {}
  bool Execute(const isa::Load& i);
  bool Execute(const isa::Store& i);

 private:
  template <typename I>
  bool CheckRange(const I& i, std::size_t element_bytes, std::size_t alignment, const AccessLog& pad,
                  const char* pad_verb, const char* dram_verb);
  template <typename I, typename F>
  bool ForEachRun(const I& i, std::size_t element_bytes, F f);
  bool TakeDisplacements(const std::uint8_t* data, std::size_t first, std::size_t count, std::size_t element);

  Machine& m_;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_UNITS_H_
