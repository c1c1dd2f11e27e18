#include <algorithm>
#include <map>
#include <tuple>

#include "tilewright/region.h"

namespace tilewright::runtime {
namespace {

constexpr std::size_t kInstructionBytes = 64;

auto Key(const Overlay& m) {
  return std::make_tuple(m.block_in, m.block_out, m.inp_bits, m.wgt_bits, m.acc_bits, m.act_half_words, m.wgt_tiles,
                         m.acc_vectors, m.param_records, m.disp_entries, m.displacement_min, m.displacement_max);
}

class SimulatorDevice final : public Device {
 public:
  void Run(const Region& region, std::uint32_t, const std::vector<std::uint8_t>& inputs,
           std::vector<std::uint8_t>* outputs, tw_rt_stats* stats) override {
    Fault fault;
    auto& simulator = simulators_[Key(region.machine)];
    if (!simulator) simulator = Simulator::Create(region.machine, &fault);
    if (!simulator) Fail(TW_RT_PACKAGE, "region ", region.name, ": ", fault.text);
    workspace_.resize(std::max<std::size_t>(workspace_.size(), region.workspace_bytes));
    // The simulator never writes constants and inputs (a STORE to them is a fault).
    const Segments segments = {{{const_cast<std::uint8_t*>(region.constants.data()), region.constants.size()},
                                {workspace_.data(), region.workspace_bytes},
                                {const_cast<std::uint8_t*>(inputs.data()), inputs.size()},
                                {outputs->data(), outputs->size()}}};
    Stats s;
    if (!simulator->Run(region.stream.data(), region.stream.size(), segments, &s, &fault)) Report(region, fault);
    stats->instructions += static_cast<std::int64_t>(region.stream.size() / kInstructionBytes);
    stats->matrix_steps += s.matrix_steps;
    stats->vector_reads += s.vector_reads;
    stats->dram_read_bytes += s.dram_read_bytes;
    stats->dram_write_bytes += s.dram_write_bytes;
    stats->fetch_bytes += s.fetch_bytes;
  }

 private:
  [[noreturn]] static void Report(const Region& region, const Fault& fault) {
    if (fault.kind == FaultKind::kMemory) Fail(TW_RT_MEMORY, "region ", region.name, ": ", fault.text);
    std::ostringstream where;
    for (std::int64_t number : {fault.instruction, fault.other}) {
      if (number < 0) continue;
      where << ", instruction " << number;
      if (static_cast<std::uint64_t>(number) < region.layer_of.size()) {
        where << " (layer " << region.layers[region.layer_of[static_cast<std::size_t>(number)]] << ")";
      }
    }
    Fail(TW_RT_SIMULATOR, "region ", region.name, where.str(), ": ", FaultKindName(fault.kind), ": ", fault.text);
  }

  std::map<decltype(Key(Overlay{})), std::unique_ptr<Simulator>> simulators_;
  std::vector<std::uint8_t> workspace_;
};

class CallbackDevice final : public Device {
 public:
  CallbackDevice(tw_rt_accelerator run, void* context) : run_(run), context_(context) {}

  void Run(const Region& region, std::uint32_t index, const std::vector<std::uint8_t>& inputs,
           std::vector<std::uint8_t>* outputs, tw_rt_stats* stats) override {
    const std::int32_t code =
        run_(context_, index, inputs.data(), inputs.size(), outputs->data(), outputs->size());
    if (code != 0) Fail(TW_RT_CALLBACK, "region ", region.name, ": the accelerator's function failed with ", code);
    stats->instructions += static_cast<std::int64_t>(region.stream.size() / kInstructionBytes);
  }

 private:
  tw_rt_accelerator run_;
  void* context_;
};

}  // namespace

std::unique_ptr<Device> MakeSimulatorDevice() { return std::make_unique<SimulatorDevice>(); }
std::unique_ptr<Device> MakeCallbackDevice(tw_rt_accelerator run, void* context) {
  return std::make_unique<CallbackDevice>(run, context);
}

}  // namespace tilewright::runtime
