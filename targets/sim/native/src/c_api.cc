#include <algorithm>
#include <cstring>
#include <new>

#include "tilewright/simulator.h"
#include "tilewright/simulator_c.h"

struct tw_sim {
  std::unique_ptr<tilewright::Simulator> simulator;
};

namespace {

using tilewright::Fault;
using tilewright::FaultKind;

std::int32_t Report(const Fault& from, tw_sim_fault* to) {
  to->kind = static_cast<std::int32_t>(from.kind);
  to->instruction = from.instruction;
  to->other = from.other;
  const std::size_t length = std::min(from.text.size(), sizeof to->text - 1);
  std::memcpy(to->text, from.text.data(), length);
  to->text[length] = 0;
  return to->kind;
}

std::int32_t OutOfMemory(tw_sim_fault* to) {
  to->kind = static_cast<std::int32_t>(FaultKind::kMemory);
  to->instruction = to->other = -1;
  std::strcpy(to->text, "no memory left");
  return to->kind;
}

bool ValidLevel(std::int32_t level) { return level >= 0 && level < tilewright::kSimdLevels; }

}  // namespace

extern "C" {

std::int32_t tw_sim_abi(void) { return TW_SIM_ABI; }

tw_sim* tw_sim_create(const tw_sim_overlay* o, tw_sim_fault* fault) {
  try {
    tilewright::Overlay overlay{o->block_in,     o->block_out,        o->inp_bits,
                                o->wgt_bits,     o->acc_bits,         o->act_half_words,
                                o->wgt_tiles,    o->acc_vectors,      o->param_records,
                                o->disp_entries, o->displacement_min, o->displacement_max};
    Fault found;
    std::unique_ptr<tw_sim> sim(new tw_sim{tilewright::Simulator::Create(overlay, &found)});
    Report(found, fault);
    return sim->simulator ? sim.release() : nullptr;
  } catch (const std::bad_alloc&) {
    OutOfMemory(fault);
    return nullptr;
  }
}

void tw_sim_destroy(tw_sim* sim) { delete sim; }

std::int32_t tw_sim_run(tw_sim* sim, const std::uint8_t* stream, std::uint64_t size,
                        const tw_sim_segment segments[4], tw_sim_stats* stats, tw_sim_fault* fault) {
  try {
    tilewright::Segments to;
    for (std::size_t k = 0; k < to.size(); ++k)
      to[k] = {segments[k].data, static_cast<std::size_t>(segments[k].size)};
    tilewright::Stats from;
    Fault found;
    sim->simulator->Run(stream, static_cast<std::size_t>(size), to, &from, &found);
    std::copy(from.instructions.begin(), from.instructions.end(), stats->instructions);
    stats->matrix_steps = from.matrix_steps;
    stats->vector_reads = from.vector_reads;
    stats->dram_read_bytes = from.dram_read_bytes;
    stats->dram_write_bytes = from.dram_write_bytes;
    stats->fetch_bytes = from.fetch_bytes;
    return Report(found, fault);
  } catch (const std::bad_alloc&) {
    return OutOfMemory(fault);
  }
}

void tw_sim_output_written(const tw_sim* sim, std::uint8_t* written, std::uint64_t count) {
  static_assert(sizeof(bool) == 1, "a bool is a byte");
  sim->simulator->OutputWritten(reinterpret_cast<bool*>(written), static_cast<std::size_t>(count));
}

std::int32_t tw_sim_simd_level(const tw_sim* sim) {
  return static_cast<std::int32_t>(sim->simulator->simd_level());
}

std::int32_t tw_sim_set_simd_level(tw_sim* sim, std::int32_t level) {
  return ValidLevel(level) && sim->simulator->SetSimdLevel(static_cast<tilewright::SimdLevel>(level));
}

const char* tw_sim_simd_level_name(std::int32_t level) {
  return ValidLevel(level) ? tilewright::SimdLevelName(static_cast<tilewright::SimdLevel>(level)) : nullptr;
}

std::int32_t tw_sim_simd_level_supported(std::int32_t level) {
  return ValidLevel(level) && tilewright::SimdLevelSupported(static_cast<tilewright::SimdLevel>(level));
}

const char* tw_sim_fault_kind_name(std::int32_t kind) {
  return kind >= 0 && kind <= static_cast<std::int32_t>(FaultKind::kMemory)
             ? tilewright::FaultKindName(static_cast<FaultKind>(kind))
             : nullptr;
}

}  // extern "C"
