#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "guard.h"
#include "interpreter.h"
#include "tilewright/device.h"
#include "tilewright/runtime_c.h"

using tilewright::runtime::Guard;
using tilewright::runtime::Interpreter;
using tilewright::runtime::MakeCallbackDevice;
using tilewright::runtime::MakeSimulatorDevice;
using tilewright::runtime::OpenDevice;
using tilewright::runtime::Program;
using tilewright::runtime::Region;
using tilewright::runtime::Tensor;

struct tw_program {
  std::unique_ptr<Interpreter> interpreter;
};

namespace {

std::vector<std::uint8_t> Copy(const tw_rt_bytes& bytes) {
  return bytes.size == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes.data, bytes.data + bytes.size);
}

}  // namespace

extern "C" {

int32_t tw_rt_abi(void) { return TW_RT_ABI; }

int32_t tw_rt_open(tw_rt_bytes program, const tw_rt_bytes* regions, uint32_t n_regions, tw_program** out,
                   tw_rt_error* error) {
  *out = nullptr;
  return Guard(error, [&] {
    std::vector<Region> parsed;
    for (std::uint32_t i = 0; i < n_regions; ++i) {
      const tw_rt_bytes* r = regions + 3 * static_cast<std::size_t>(i);
      parsed.push_back(Region::Parse(r[0].data, r[0].size, Copy(r[1]), Copy(r[2])));
    }
    auto handle = std::make_unique<tw_program>();
    handle->interpreter =
        std::make_unique<Interpreter>(Program::Parse(program.data, program.size, n_regions), std::move(parsed));
    *out = handle.release();
  });
}

void tw_rt_close(tw_program* program) { delete program; }

int32_t tw_rt_open_device(tw_program* program, const char* uri, tw_rt_error* error) {
  return Guard(error, [&] { program->interpreter->set_device(OpenDevice(uri)); });
}

void tw_rt_set_accelerator(tw_program* program, tw_rt_accelerator run, void* context) {
  program->interpreter->set_device(run == nullptr ? MakeSimulatorDevice() : MakeCallbackDevice(run, context));
}

int32_t tw_rt_run(tw_program* program, const tw_rt_tensor* inputs, uint32_t n_inputs, tw_rt_stats* stats,
                  tw_rt_error* error) {
  tw_rt_stats local{};
  const auto start = std::chrono::steady_clock::now();
  const std::int32_t kind = Guard(error, [&] { program->interpreter->Run(inputs, n_inputs, &local); });
  local.run_ns = std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
  if (stats != nullptr) *stats = local;
  return kind;
}

uint32_t tw_rt_outputs(const tw_program* program) { return program->interpreter->outputs(); }

int32_t tw_rt_output(const tw_program* program, uint32_t index, tw_rt_tensor* out) {
  const Tensor* value = program->interpreter->output(index);
  if (value == nullptr) return TW_RT_DATA;
  out->dtype = static_cast<std::int32_t>(value->type());
  out->rank = static_cast<std::int32_t>(value->rank());
  std::copy(value->shape().begin(), value->shape().end(), out->shape);
  out->data = const_cast<std::uint8_t*>(value->raw());
  out->size = value->bytes();
  return TW_RT_OK;
}

}  // extern "C"
