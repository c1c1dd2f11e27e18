#include <memory>

#include "guard.h"
#include "tilewright/package.h"
#include "tilewright/package_c.h"

using tilewright::runtime::Guard;
using tilewright::runtime::Package;

struct tw_package {
  std::vector<std::uint8_t> file;
  Package package;
  std::vector<tw_rt_bytes> regions;
};

namespace {

const std::vector<std::uint32_t>& Edge(const tw_package* package, tw_package_edge edge) {
  const auto& program = package->package.interface;
  return edge == TW_PACKAGE_INPUT ? program.inputs : program.outputs;
}

}  // namespace

extern "C" {

int32_t tw_package_open(tw_rt_bytes file, tw_package** out, tw_rt_error* error) {
  *out = nullptr;
  return Guard(error, [&] {
    auto handle = std::make_unique<tw_package>();
    if (file.size > 0) handle->file.assign(file.data, file.data + file.size);
    handle->package = Package::Parse(handle->file.data(), handle->file.size());
    for (const auto& parts : handle->package.regions) {
      handle->regions.insert(handle->regions.end(), parts.begin(), parts.end());
    }
    *out = handle.release();
  });
}

void tw_package_close(tw_package* package) { delete package; }

const char* tw_package_name(const tw_package* package) { return package->package.name.c_str(); }
const char* tw_package_overlay(const tw_package* package) { return package->package.overlay.c_str(); }
const char* tw_package_overlay_hash(const tw_package* package) { return package->package.overlay_hash.c_str(); }

tw_rt_bytes tw_package_program(const tw_package* package) { return package->package.program; }

uint32_t tw_package_regions(const tw_package* package, const tw_rt_bytes** regions) {
  *regions = package->regions.data();
  return static_cast<uint32_t>(package->package.regions.size());
}

uint32_t tw_package_tensors(const tw_package* package, tw_package_edge edge) {
  return static_cast<uint32_t>(Edge(package, edge).size());
}

const char* tw_package_tensor(const tw_package* package, tw_package_edge edge, uint32_t index, tw_rt_tensor* out) {
  const auto& program = package->package.interface;
  if (index >= Edge(package, edge).size()) return nullptr;
  const auto& spec = program.tensors[Edge(package, edge)[index]];
  *out = {};
  out->dtype = static_cast<std::int32_t>(spec.type);
  out->rank = static_cast<std::int32_t>(spec.shape.size());
  std::copy(spec.shape.begin(), spec.shape.end(), out->shape);
  if (program.batch > 1) out->shape[0] = program.batch;
  return spec.name.c_str();
}

}  // extern "C"
