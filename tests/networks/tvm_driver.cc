// Runs `main` of an exported library by TVM's runtime, without Python: what a test starts on an emulated Arm.
// tvm_driver LIBTILEWRIGHT_TVM LIBRARY INPUT OUTPUT DIM..: INPUT holds float32 of that shape; output i goes to OUTPUT.i.
#include <dlfcn.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

struct HostAllocation {
  void AllocData(DLTensor* tensor) { tensor->data = std::aligned_alloc(64, (ffi::GetDataSize(*tensor) + 63) / 64 * 64); }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

int main(int argc, char** argv) {
  if (argc < 6 || dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    std::fprintf(stderr, "%s\n", argc < 6 ? "arguments are missing" : dlerror());
    return 1;
  }
  try {
    std::vector<std::int64_t> dims;
    for (int i = 5; i < argc; ++i) dims.push_back(std::atoll(argv[i]));
    ffi::Tensor input = ffi::Tensor::FromNDAlloc(HostAllocation(), ffi::Shape(dims.begin(), dims.end()),
                                                 DLDataType{kDLFloat, 32, 1}, DLDevice{kDLCPU, 0});
    std::ifstream file(argv[3], std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.size() != ffi::GetDataSize(input)) return std::fprintf(stderr, "%s: wrong size\n", argv[3]), 1;
    std::memcpy(input.data_ptr(), bytes.data(), bytes.size());

    const ffi::Module library = ffi::Module::LoadFromFile(argv[2]);
    const auto vm = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
    constexpr int kPooled = 2;
    vm->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooled);
    const ffi::Any result = vm->GetFunction("main").value()(input);
    std::vector<ffi::Tensor> outputs;
    if (auto one = result.as<ffi::Tensor>()) {
      outputs.push_back(*one);
    } else {
      for (const auto& item : result.cast<ffi::Array<ffi::Tensor>>()) outputs.push_back(item);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      std::ofstream out(std::string(argv[4]) + "." + std::to_string(i), std::ios::binary);
      out.write(static_cast<const char*>(outputs[i].data_ptr()),
                static_cast<std::streamsize>(ffi::GetDataSize(outputs[i])));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
