#include <algorithm>
#include <cstring>
#include <new>

#include "tilewright/timing.h"
#include "tilewright/timing_c.h"

static_assert(sizeof(tilewright::TimingConfig) == sizeof(tw_timing_config), "29 figures");
static_assert(tilewright::kActivities == TW_TIMING_ACTIVITIES, "activities");

extern "C" {

std::int32_t tw_timing_abi(void) { return TW_TIMING_ABI; }

std::int32_t tw_timing_run(const tw_timing_config* config, const std::uint8_t* stream, std::uint64_t size,
                           std::int64_t limit, std::int32_t leap, tw_timing* to, std::int64_t* times,
                           tw_sim_fault* fault) {
  tilewright::Fault found;
  try {
    tilewright::TimingConfig c;
    std::memcpy(&c, config->values, sizeof c);
    tilewright::Timing from;
    tilewright::RunTiming(c, stream, static_cast<std::size_t>(size), limit, leap != 0, &from, &found);
    to->cycles = from.cycles;
    for (std::size_t unit = 0; unit < from.activity.size(); ++unit)
      std::copy(from.activity[unit].begin(), from.activity[unit].end(), to->activity[unit]);
    to->dram_read_bytes = from.dram_read_bytes;
    to->dram_write_bytes = from.dram_write_bytes;
    to->fetch_bytes = from.fetch_bytes;
    if (times != nullptr)
      for (const tilewright::InstructionTime& t : from.instructions) {
        *times++ = t.dispatched;
        *times++ = t.start;
        *times++ = t.end;
      }
  } catch (const std::bad_alloc&) {
    found = {tilewright::FaultKind::kMemory, -1, -1, "no memory left"};
  }
  fault->kind = static_cast<std::int32_t>(found.kind);
  fault->instruction = found.instruction;
  fault->other = found.other;
  const std::size_t length = std::min(found.text.size(), sizeof fault->text - 1);
  std::memcpy(fault->text, found.text.data(), length);
  fault->text[length] = 0;
  return fault->kind;
}

}  // extern "C"
