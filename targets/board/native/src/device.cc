#include <algorithm>
#include <map>
#include <tuple>

#include "device_uri.h"
#include "device_zynq.h"
#include "tilewright/device.h"

namespace tilewright::runtime {
namespace {

constexpr std::size_t kInstructionBytes = 64;

auto Key(const Overlay& m) {
  return std::make_tuple(m.block_in, m.block_out, m.inp_bits, m.wgt_bits, m.acc_bits, m.act_half_words, m.wgt_tiles,
                         m.acc_vectors, m.param_records, m.disp_entries, m.displacement_min, m.displacement_max);
}

// Simulators by overlay, and a workspace for all regions.
class Simulators {
 public:
  void Run(const Region& region, std::vector<std::uint8_t>* inputs, std::vector<std::uint8_t>* outputs,
           tw_rt_stats* stats) {
    Fault fault;
    auto& simulator = simulators_[Key(region.machine)];
    if (!simulator) simulator = Simulator::Create(region.machine, &fault);
    if (!simulator) Fail(TW_RT_PACKAGE, "region ", region.name, ": ", fault.text);
    workspace_.resize(std::max<std::size_t>(workspace_.size(), region.workspace_bytes));
    // The simulator never writes constants and inputs (a STORE to them is a fault).
    const Segments segments = {{{const_cast<std::uint8_t*>(region.constants.data()), region.constants.size()},
                                {workspace_.data(), static_cast<std::size_t>(region.workspace_bytes)},
                                {inputs->data(), inputs->size()},
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

// Segments in ordinary memory, for devices of this process.
class HostPlacement : public Placement {
 public:
  explicit HostPlacement(const Region& region)
      : region_(region),
        inputs_(static_cast<std::size_t>(region.input_bytes)),
        outputs_(static_cast<std::size_t>(region.output_bytes)) {}
  std::uint8_t* inputs() override { return inputs_.data(); }
  std::uint8_t* outputs() override { return outputs_.data(); }

 protected:
  const Region& region_;
  std::vector<std::uint8_t> inputs_, outputs_;
};

class SimulatorPlacement final : public HostPlacement {
 public:
  SimulatorPlacement(const Region& region, std::shared_ptr<Simulators> simulators)
      : HostPlacement(region), simulators_(std::move(simulators)) {}
  void Run(tw_rt_stats* stats) override { simulators_->Run(region_, &inputs_, &outputs_, stats); }

 private:
  std::shared_ptr<Simulators> simulators_;
};

class SimulatorDevice final : public Device {
 public:
  std::vector<std::unique_ptr<Placement>> Place(const std::vector<const Region*>& regions) override {
    std::vector<std::unique_ptr<Placement>> placements;
    for (const Region* region : regions) placements.push_back(std::make_unique<SimulatorPlacement>(*region, simulators_));
    return placements;
  }

 private:
  std::shared_ptr<Simulators> simulators_ = std::make_shared<Simulators>();
};

class CallbackPlacement final : public HostPlacement {
 public:
  CallbackPlacement(const Region& region, tw_rt_accelerator run, void* context)
      : HostPlacement(region), run_(run), context_(context) {}

  void Run(tw_rt_stats* stats) override {
    const std::int32_t code =
        run_(context_, region_.index, inputs_.data(), inputs_.size(), outputs_.data(), outputs_.size());
    if (code != 0) Fail(TW_RT_CALLBACK, "region ", region_.name, ": the accelerator's function failed with ", code);
    stats->instructions += static_cast<std::int64_t>(region_.stream.size() / kInstructionBytes);
  }

 private:
  tw_rt_accelerator run_;
  void* context_;
};

class CallbackDevice final : public Device {
 public:
  CallbackDevice(tw_rt_accelerator run, void* context) : run_(run), context_(context) {}
  std::vector<std::unique_ptr<Placement>> Place(const std::vector<const Region*>& regions) override {
    std::vector<std::unique_ptr<Placement>> placements;
    for (const Region* region : regions) {
      placements.push_back(std::make_unique<CallbackPlacement>(*region, run_, context_));
    }
    return placements;
  }

 private:
  tw_rt_accelerator run_;
  void* context_;
};

}  // namespace

std::shared_ptr<Device> MakeSimulatorDevice() { return std::make_shared<SimulatorDevice>(); }
std::shared_ptr<Device> MakeCallbackDevice(tw_rt_accelerator run, void* context) {
  return std::make_shared<CallbackDevice>(run, context);
}

std::shared_ptr<Device> OpenDevice(const std::string& text) {
  const DeviceUri uri = DeviceUri::Parse(text);
  return uri.scheme == "sim" ? MakeSimulatorDevice() : OpenZynqDevice(uri);
}

}  // namespace tilewright::runtime
