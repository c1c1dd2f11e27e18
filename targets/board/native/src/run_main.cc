// tilewright-run: runs a package on .npy files, without Python.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "npy.h"
#include "tilewright/package_c.h"

namespace {

using tilewright::runtime::DType;
using tilewright::runtime::DTypeName;
using tilewright::runtime::Error;
using tilewright::runtime::Fail;
using tilewright::runtime::ReadFile;
using tilewright::runtime::ReadNpy;
using tilewright::runtime::Shape;
using tilewright::runtime::ShapeText;
using tilewright::runtime::Tensor;
using tilewright::runtime::WriteNpy;

constexpr char kUsage[] =
    "usage: tilewright-run PACKAGE [[NAME=]INPUT.npy ..] [--output FOLDER] [--device URI] [--repeat N]\n"
    "\n"
    "Without inputs: says what is in the package. Inputs without names come in the package's order.\n"
    "  --output FOLDER  write each output to FOLDER/NAME.npy\n"
    "  --device URI     sim (default: the accelerator simulated), or zynq:registers=PATH,memory=PATH\n"
    "  --repeat N       run N times and tell how long each took (default 1)\n";
constexpr int kExitFault = 2;

struct Options {
  std::string package, output, device = "sim";
  std::vector<std::string> inputs;
  int repeat = 1;
};

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::milli>(Clock::now() - since).count();
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "-h" || word == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    const bool known = word == "--output" || word == "--device" || word == "--repeat";
    if (!known && word.size() > 1 && word[0] == '-') Fail(TW_RT_DATA, "unknown option ", word, "\n", kUsage);
    if (!known) {
      (options.package.empty() ? options.package : options.inputs.emplace_back()) = word;
      continue;
    }
    if (i + 1 == argc) Fail(TW_RT_DATA, word, ": its value is missing\n", kUsage);
    const std::string value = argv[++i];
    if (word == "--output") options.output = value;
    if (word == "--device") options.device = value;
    if (word == "--repeat") {
      char* end = nullptr;
      const long count = std::strtol(value.c_str(), &end, 10);
      if (*end != 0 || count < 1 || count > 1000000000) Fail(TW_RT_DATA, "--repeat: expected 1 to 10^9, found ", value);
      options.repeat = static_cast<int>(count);
    }
  }
  if (options.package.empty()) Fail(TW_RT_DATA, "no package is given\n", kUsage);
  return options;
}

struct Close {
  void operator()(tw_package* package) const { tw_package_close(package); }
  void operator()(tw_program* program) const { tw_rt_close(program); }
};
using PackageHandle = std::unique_ptr<tw_package, Close>;
using ProgramHandle = std::unique_ptr<tw_program, Close>;

void Check(const tw_rt_error& error, const std::string& where) {
  if (error.kind != TW_RT_OK) Fail(static_cast<tw_rt_kind>(error.kind), where, error.text);
}

PackageHandle OpenPackage(const std::string& path) {
  const std::vector<std::uint8_t> file = ReadFile(path);
  tw_package* package = nullptr;
  tw_rt_error error;
  tw_package_open({file.data(), file.size()}, &package, &error);
  Check(error, path + ": ");
  return PackageHandle(package);
}

ProgramHandle OpenProgram(const tw_package* package, const Options& options) {
  const tw_rt_bytes* regions = nullptr;
  const std::uint32_t count = tw_package_regions(package, &regions);
  tw_program* program = nullptr;
  tw_rt_error error;
  tw_rt_open(tw_package_program(package), regions, count, &program, &error);
  Check(error, options.package + ": ");
  ProgramHandle handle(program);
  tw_rt_open_device(program, options.device.c_str(), &error);
  Check(error, "");
  return handle;
}

std::string Describe(const tw_rt_tensor& tensor) {
  return DTypeName(static_cast<DType>(tensor.dtype)) + (" " + ShapeText(Shape(tensor.shape, tensor.shape + tensor.rank)));
}

void PrintPackage(const tw_package* package) {
  std::printf("network %s\noverlay %s\nhash %s\n", tw_package_name(package), tw_package_overlay(package),
              tw_package_overlay_hash(package));
  for (const tw_package_edge edge : {TW_PACKAGE_INPUT, TW_PACKAGE_OUTPUT}) {
    tw_rt_tensor tensor;
    for (std::uint32_t i = 0; const char* name = tw_package_tensor(package, edge, i, &tensor); ++i) {
      std::printf("%s %s %s\n", edge == TW_PACKAGE_INPUT ? "input" : "output", name, Describe(tensor).c_str());
    }
  }
}

// The arrays in the package's order.
std::vector<Tensor> ReadInputs(const tw_package* package, const std::vector<std::string>& words) {
  const std::uint32_t count = tw_package_tensors(package, TW_PACKAGE_INPUT);
  std::vector<Tensor> arrays(count);
  std::vector<std::string> paths(count);
  std::uint32_t next = 0;
  for (const std::string& word : words) {
    tw_rt_tensor wanted;
    std::uint32_t place = count;
    std::string path = word;
    for (std::uint32_t i = 0; i < count && place == count; ++i) {
      const std::string name = tw_package_tensor(package, TW_PACKAGE_INPUT, i, &wanted);
      if (word.compare(0, name.size() + 1, name + "=") == 0) {
        place = i;
        path = word.substr(name.size() + 1);
      }
    }
    if (place == count) place = next;
    if (place >= count) Fail(TW_RT_DATA, word, ": there are ", count, " inputs only");
    next = place + 1;
    const std::string name = tw_package_tensor(package, TW_PACKAGE_INPUT, place, &wanted);
    if (!paths[place].empty()) Fail(TW_RT_DATA, "input ", name, " is given twice: ", paths[place], " and ", path);
    paths[place] = path;
    Tensor& array = arrays[place];
    array = ReadNpy(path);
    const bool fits = static_cast<int>(array.type()) == wanted.dtype &&
                      array.shape() == Shape(wanted.shape, wanted.shape + wanted.rank);
    if (!fits) {
      Fail(TW_RT_DATA, path, ": expected ", Describe(wanted), " for input ", name, ", found ", DTypeName(array.type()), " ",
           ShapeText(array.shape()));
    }
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    tw_rt_tensor wanted;
    const char* name = tw_package_tensor(package, TW_PACKAGE_INPUT, i, &wanted);
    if (paths[i].empty()) Fail(TW_RT_DATA, "input ", name, " is missing, expected ", Describe(wanted));
  }
  return arrays;
}

void Run(tw_program* program, const std::vector<Tensor>& arrays, int repeat) {
  std::vector<tw_rt_tensor> inputs;
  for (const Tensor& array : arrays) {
    tw_rt_tensor& t = inputs.emplace_back();
    t.dtype = static_cast<std::int32_t>(array.type());
    t.rank = static_cast<std::int32_t>(array.rank());
    std::copy(array.shape().begin(), array.shape().end(), t.shape);
    t.data = const_cast<std::uint8_t*>(array.raw());
    t.size = array.bytes();
  }
  double first = 0, least = 0, most = 0, sum = 0;
  tw_rt_stats stats{};
  for (int i = 0; i < repeat; ++i) {
    const auto start = Clock::now();
    tw_rt_error error;
    tw_rt_run(program, inputs.data(), static_cast<std::uint32_t>(inputs.size()), &stats, &error);
    Check(error, "");
    const double time = Milliseconds(start);
    if (i == 0) first = least = time;
    least = std::min(least, time);
    most = std::max(most, time);
    sum += time;
  }
  std::printf("runs %d, first %.3f ms, least %.3f ms, mean %.3f ms, most %.3f ms\n", repeat, first, least, sum / repeat,
              most);
  std::printf("regions %" PRId64 ", instructions %" PRId64 ", cycles %" PRId64 "\n", stats.regions, stats.instructions,
              stats.cycles);
}

// A name that is a file's: letters, digits, '.', '_', '-'; not one that was taken already.
std::string FileName(const std::string& name, std::set<std::string>* taken) {
  std::string plain;
  for (const char c : name) plain += std::isalnum(static_cast<unsigned char>(c)) || (c && std::strchr("._-", c)) ? c : '_';
  if (plain.empty() || plain[0] == '.') plain.insert(0, "_");
  plain.resize(std::min<std::size_t>(plain.size(), 200));
  std::string unique = plain;
  for (int i = 1; !taken->insert(unique).second; ++i) unique = plain + "_" + std::to_string(i);
  return unique + ".npy";
}

void WriteOutputs(const tw_package* package, const tw_program* program, const std::string& folder) {
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) Fail(TW_RT_DATA, folder, ": cannot make: ", std::strerror(errno));
  std::set<std::string> taken;
  tw_rt_tensor declared, found;
  for (std::uint32_t i = 0; i < tw_rt_outputs(program); ++i) {
    const char* name = tw_package_tensor(package, TW_PACKAGE_OUTPUT, i, &declared);
    tw_rt_output(program, i, &found);
    const std::string path = folder + "/" + FileName(name, &taken);
    WriteNpy(path, found);
    std::printf("output %s %s %s\n", name, Describe(found).c_str(), path.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = ParseOptions(argc, argv);
    const auto start = Clock::now();
    const PackageHandle package = OpenPackage(options.package);
    const ProgramHandle program = OpenProgram(package.get(), options);
    if (options.inputs.empty() && tw_package_tensors(package.get(), TW_PACKAGE_INPUT) > 0) {
      PrintPackage(package.get());
      return 0;
    }
    const std::vector<Tensor> arrays = ReadInputs(package.get(), options.inputs);
    std::printf("loaded in %.3f ms\n", Milliseconds(start));
    Run(program.get(), arrays, options.repeat);
    if (!options.output.empty()) WriteOutputs(package.get(), program.get(), options.output);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.kind == TW_RT_INTERNAL ? 1 : kExitFault;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: no memory left\n");
    return kExitFault;
  }
}
