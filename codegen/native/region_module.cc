// Accelerator regions as a TVM module: binary-serialisable, so it lives on in export_library; each region is a
// function whose arguments are its operands and then its results (call_dps_packed); `set_device` takes the text of a device
// (device.h) that runs them from then on, at first the fast simulator. Bytes: magic `TWMB`, u16 1,
// u32 number of regions, then of each a u64 size and bytes of record, stream and constants
// (targets/program.py defines the record; codegen/byoc.py writes all of it).
#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reader.h"
#include "tilewright/device.h"
#include "tilewright/operator.h"
#include "tilewright/region.h"

namespace tilewright {
namespace {

namespace ffi = tvm::ffi;
using runtime::Device;
using runtime::DType;
using runtime::Error;
using runtime::MapLayout;
using runtime::Region;
using runtime::RegionRunner;
using runtime::Shape;

constexpr char kMagic[] = {'T', 'W', 'M', 'B', 1, 0};

// Runs f; our errors become TVM's, for TVM's own way of crossing the language border.
template <typename F>
auto Translate(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& error) {
    const std::string text = error.what();
    if (error.kind == TW_RT_DATA || error.kind == TW_RT_PACKAGE || error.kind == TW_RT_URI) TVM_FFI_THROW(ValueError) << text;
    TVM_FFI_THROW(RuntimeError) << text;
  }
  TVM_FFI_UNREACHABLE();
}

DLDataType DLType(DType type) {
  switch (type) {
    case DType::kFloat32:
      return {kDLFloat, 32, 1};
    case DType::kInt8:
      return {kDLInt, 8, 1};
    case DType::kUint8:
      return {kDLUInt, 8, 1};
    case DType::kInt32:
      return {kDLInt, 32, 1};
    case DType::kInt16:
      return {kDLInt, 16, 1};
    case DType::kUint16:
      return {kDLUInt, 16, 1};
    case DType::kInt64:
      break;
  }
  return {kDLInt, 64, 1};
}

// The tensor's first byte, after checking that it is packed, on the host, and of that type and shape.
std::uint8_t* Checked(const DLTensor* tensor, DType type, const Shape& shape, const std::string& where) {
  const DLDataType expected = DLType(type);
  const bool same_type = tensor->dtype.code == expected.code && tensor->dtype.bits == expected.bits &&
                         tensor->dtype.lanes == expected.lanes;
  const Shape found(tensor->shape, tensor->shape + tensor->ndim);
  runtime::Require(same_type && found == shape, where, ": expected ", runtime::DTypeName(type), " ",
                   runtime::ShapeText(shape), ", found type ", int{tensor->dtype.code}, ", ",
                   int{tensor->dtype.bits}, " bits, ", runtime::ShapeText(found));
  runtime::Require(tensor->device.device_type == kDLCPU, where, ": expected a tensor on the CPU");
  runtime::Require(ffi::IsContiguous(*tensor), where, ": expected a packed tensor");
  return static_cast<std::uint8_t*>(tensor->data) + tensor->byte_offset;
}

class RegionModule final : public ffi::ModuleObj {
 public:
  explicit RegionModule(const ffi::Bytes& bytes) : bytes_(bytes.data(), bytes.size()) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes_.data());
    runtime::Reader r(data, bytes_.size(), "module");
    r.Expect(kMagic, sizeof kMagic);
    for (std::uint32_t n = r.Count(24); n > 0; --n) {
      std::vector<std::uint8_t> parts[3];
      for (auto& part : parts) {
        const auto size = r.Number<std::uint64_t>();
        const std::uint8_t* begin = r.Raw(size);
        part.assign(begin, begin + size);
      }
      Region region = Region::Parse(parts[0].data(), parts[0].size(), std::move(parts[1]), std::move(parts[2]));
      const std::string name = region.name;
      auto runner = std::make_unique<RegionRunner>(std::move(region), static_cast<std::uint32_t>(runners_.size()));
      runtime::Require(runners_.emplace(name, std::move(runner)).second, "region ", name, " occurs twice");
    }
    r.End();
    Place(runtime::MakeSimulatorDevice().get());
  }

  const char* kind() const final { return "tilewright"; }
  int GetPropertyMask() const final { return ffi::Module::kBinarySerializable | ffi::Module::kRunnable; }
  ffi::Bytes SaveToBytes() const final { return ffi::Bytes(bytes_); }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    // Functions keep the module alive.
    const ffi::Module self = ffi::GetRef<ffi::Module>(this);
    if (name == "set_device") {
      return ffi::Function::FromTyped([this, self](const ffi::String& uri) {
        Translate([&] {
          std::lock_guard<std::mutex> lock(mutex_);
          Place(runtime::OpenDevice(std::string(uri)).get());
        });
      });
    }
    const auto found = runners_.find(std::string(name));
    if (found == runners_.end()) return std::nullopt;
    RegionRunner* runner = found->second.get();
    return ffi::Function::FromPacked([this, self, runner](ffi::PackedArgs args, ffi::Any*) {
      Translate([&] { Run(runner, args); });
    });
  }

 private:
  void Place(Device* device) {
    std::vector<RegionRunner*> runners;
    for (const auto& [name, runner] : runners_) runners.push_back(runner.get());
    PlaceAll(runners, device);
  }

  void Run(RegionRunner* runner, ffi::PackedArgs args) {
    const Region& region = runner->region();
    const std::size_t n_in = region.inputs.size(), n_out = region.outputs.size();
    runtime::Require(static_cast<std::size_t>(args.size()) == n_in + n_out, "region ", region.name, ": expected ",
                     n_in + n_out, " arguments, found ", args.size());
    std::vector<const std::uint8_t*> inputs;
    std::vector<std::uint8_t*> outputs;
    for (std::size_t i = 0; i < n_in + n_out; ++i) {
      const MapLayout& map = i < n_in ? region.inputs[i] : region.outputs[i - n_in];
      const auto tensor = args[static_cast<int>(i)].cast<DLTensor*>();
      std::uint8_t* data = Checked(tensor, map.type, map.shape, "region " + region.name + ", tensor " + map.name);
      if (i < n_in) {
        inputs.push_back(data);
      } else {
        outputs.push_back(data);
      }
    }
    tw_rt_stats stats{};
    std::lock_guard<std::mutex> lock(mutex_);  // runner and device keep buffers
    runner->Run(inputs, outputs, &stats);
  }

  std::string bytes_;
  std::map<std::string, std::unique_ptr<RegionRunner>> runners_;
  std::mutex mutex_;
};

ffi::Module LoadFromBytes(const ffi::Bytes& bytes) {
  return Translate([&] { return ffi::Module(ffi::make_object<RegionModule>(bytes)); });
}

struct HostAllocation {
  void AllocData(DLTensor* tensor) { tensor->data = new std::int64_t[(ffi::GetDataSize(*tensor) + 7) / 8 + 1]; }
  void FreeData(DLTensor* tensor) { delete[] static_cast<std::int64_t*>(tensor->data); }
};

runtime::Tensor FromDL(const DLTensor* tensor, const std::string& where) {
  const Shape shape(tensor->shape, tensor->shape + tensor->ndim);
  const std::uint8_t* data = Checked(tensor, DType::kFloat32, shape, where);
  runtime::Tensor copy(DType::kFloat32, shape);
  if (copy.bytes() > 0) std::memcpy(copy.raw(), data, copy.bytes());
  return copy;
}

// tilewright.host.operator(operands.., json): an operator of targets/host_ops.py on float32 tensors; the text holds its
// name as `op` and all its attributes.
ffi::Tensor HostOperator(ffi::PackedArgs args) {
  runtime::Require(args.size() > 0, "host operator: expected operands and attributes, found nothing");
  const int operands = args.size() - 1;
  std::string name;
  runtime::Numbers numbers;
  const auto document = ffi::json::Parse(args[operands].cast<ffi::String>()).cast<ffi::json::Object>();
  for (const auto& [key, value] : document) {
    const std::string attribute = key.cast<ffi::String>();
    if (auto text = value.as<ffi::String>()) {
      runtime::Require(attribute == "op", "host operator: expected numbers for ", attribute, ", found ", std::string(*text));
      name = std::string(*text);
    } else if (auto list = value.as<ffi::json::Array>()) {
      for (const auto& number : *list) numbers[attribute].push_back(number.cast<double>());
      numbers[attribute];  // also where the list is empty
    } else {
      numbers[attribute] = {value.cast<double>()};
    }
  }
  std::vector<runtime::Tensor> inputs;
  for (int i = 0; i < operands; ++i) {
    inputs.push_back(FromDL(args[i].cast<DLTensor*>(), name + ", operand " + std::to_string(i)));
  }
  const runtime::Tensor result = runtime::RunOperator(name, inputs, numbers);
  const ffi::Shape shape(result.shape().begin(), result.shape().end());
  ffi::Tensor out = ffi::Tensor::FromNDAlloc(HostAllocation(), shape, DLType(result.type()), DLDevice{kDLCPU, 0});
  std::memcpy(out.data_ptr(), result.raw(), result.bytes());
  return out;
}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("ffi.Module.load_from_bytes.tilewright", LoadFromBytes)
      .def_packed("tilewright.host.operator",
                  [](ffi::PackedArgs args, ffi::Any* out) { *out = Translate([&] { return HostOperator(args); }); });
}

}  // namespace
}  // namespace tilewright
