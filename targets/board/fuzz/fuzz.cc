// tilewright-fuzz CASES SEED PACKAGE..: damages packages and loads and runs what is left of them. What is wrong must be refused
// with a message; a sanitizer's finding, a signal or a case above the time limit ends the program with the case's number.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "mutate.h"
#include "npy.h"
#include "tilewright/package_c.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace tilewright::fuzz {
namespace {

constexpr unsigned kSecondsPerCase = 30;
constexpr int kExitFound = 3, kExitUsage = 2;

unsigned long long current_case = 0;

void Tell(const char* what) {
  char text[80];
  const int size = std::snprintf(text, sizeof text, "case %llu: %s\n", current_case, what);
  if (size > 0 && write(STDERR_FILENO, text, static_cast<std::size_t>(size)) < 0) _exit(kExitFound);
}

void OnDeath() { Tell("a sanitizer found something"); }
void OnSignal(int number) {
  Tell(number == SIGALRM ? "takes too long" : strsignal(number));
  _exit(kExitFound);
}

struct Outcome {
  std::int32_t kind = TW_RT_OK;
  std::string text;
};

Outcome Of(const tw_rt_error& error) { return {error.kind, error.text}; }

// Runs a loaded program twice on numbers of a pattern, and looks at its outputs.
Outcome RunProgram(tw_program* program, const std::vector<tw_rt_tensor>& wanted, Random* random) {
  std::vector<Bytes> data;
  std::vector<tw_rt_tensor> inputs = wanted;
  for (tw_rt_tensor& t : inputs) {
    std::uint64_t elements = 1;
    for (int i = 0; i < t.rank; ++i) elements *= static_cast<std::uint64_t>(t.shape[i]);
    t.size = elements * runtime::DTypeBytes(static_cast<runtime::DType>(t.dtype));
    Bytes& bytes = data.emplace_back(t.size + 8);
    for (std::uint64_t i = 0; i < t.size; ++i) bytes[i] = static_cast<std::uint8_t>(random->Below(256));
    t.data = bytes.data();
  }
  Outcome outcome;
  for (int run = 0; run < 2; ++run) {
    tw_rt_error error;
    tw_rt_stats stats;
    tw_rt_run(program, inputs.data(), static_cast<std::uint32_t>(inputs.size()), &stats, &error);
    outcome = Of(error);
    tw_rt_tensor out;
    for (std::uint32_t i = 0; i < tw_rt_outputs(program) && tw_rt_output(program, i, &out) == TW_RT_OK; ++i) {
      const Bytes copy(static_cast<std::uint8_t*>(out.data), static_cast<std::uint8_t*>(out.data) + out.size);
    }
  }
  return outcome;
}

std::vector<tw_rt_tensor> Wanted(const tw_package* package) {
  std::vector<tw_rt_tensor> wanted;
  tw_rt_tensor t;
  for (std::uint32_t i = 0; tw_package_tensor(package, TW_PACKAGE_INPUT, i, &t) != nullptr; ++i) wanted.push_back(t);
  for (std::uint32_t i = 0; tw_package_tensor(package, TW_PACKAGE_OUTPUT, i, &t) != nullptr; ++i) {
  }
  return wanted;
}

// A damaged file, loaded and run as tilewright-run does.
Outcome RunPackage(const Bytes& file, Random* random) {
  tw_package* package = nullptr;
  tw_rt_error error;
  if (tw_package_open({file.data(), file.size()}, &package, &error) != TW_RT_OK) return Of(error);
  const tw_rt_bytes* regions = nullptr;
  const std::uint32_t count = tw_package_regions(package, &regions);
  tw_program* program = nullptr;
  Outcome outcome;
  if (tw_rt_open(tw_package_program(package), regions, count, &program, &error) == TW_RT_OK) {
    outcome = RunProgram(program, Wanted(package), random);
    tw_rt_close(program);
  } else {
    outcome = Of(error);
  }
  tw_package_close(package);
  return outcome;
}

// Damaged parts handed to the runtime without the container: records may say any machine.
Outcome RunParts(const Bytes& file, Random* random) {
  tw_package* sound = nullptr;
  tw_rt_error error;
  if (tw_package_open({file.data(), file.size()}, &sound, &error) != TW_RT_OK) std::abort();
  const std::vector<tw_rt_tensor> wanted = Wanted(sound);
  const tw_rt_bytes* regions = nullptr;
  const std::uint32_t count = tw_package_regions(sound, &regions);
  std::vector<Bytes> parts;
  for (std::uint32_t i = 0; i < 3 * count; ++i) {
    Bytes& part = parts.emplace_back();
    if (regions[i].size > 0) part.assign(regions[i].data, regions[i].data + regions[i].size);
  }
  const tw_rt_bytes host = tw_package_program(sound);
  Bytes program_bytes(host.data, host.data + host.size);
  tw_package_close(sound);
  if (parts.empty() || random->Chance(40)) {
    MutateBytes(random, &program_bytes);
  } else {
    const std::size_t at = static_cast<std::size_t>(random->Below(parts.size()));
    if (at % 3 == 1) {
      MutateStream(random, &parts[at]);
    } else {
      MutateBytes(random, &parts[at]);
    }
  }
  std::vector<tw_rt_bytes> flat;
  for (const Bytes& part : parts) flat.push_back({part.data(), part.size()});
  tw_program* program = nullptr;
  if (tw_rt_open({program_bytes.data(), program_bytes.size()}, flat.data(), count, &program, &error) != TW_RT_OK) return Of(error);
  const Outcome outcome = RunProgram(program, wanted, random);
  tw_rt_close(program);
  return outcome;
}

// A damaged array file.
Outcome ReadArray(Random* random) {
  static const std::string head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2), }     \n";
  Bytes file = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<std::uint8_t>(head.size()), 0};
  file.insert(file.end(), head.begin(), head.end());
  file.resize(file.size() + 24);
  MutateBytes(random, &file);
  try {
    runtime::ParseNpy(file, "x.npy");
  } catch (const runtime::Error& error) {
    return {error.kind, error.what()};
  }
  return {};
}

int Main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: tilewright-fuzz CASES SEED PACKAGE..\n", stderr), kExitUsage;
  const unsigned long long cases = std::strtoull(argv[1], nullptr, 10), seed = std::strtoull(argv[2], nullptr, 10);
  std::vector<Bytes> corpus;
  for (int i = 3; i < argc; ++i) corpus.push_back(runtime::ReadFile(argv[i]));
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(OnDeath);
#endif
  for (const int number : {SIGALRM, SIGFPE, SIGILL}) signal(number, OnSignal);
  for (const Bytes& file : corpus) {
    Random random(seed);
    const Outcome outcome = RunPackage(file, &random);
    if (outcome.kind != TW_RT_OK && outcome.kind != TW_RT_DATA) {
      return std::fprintf(stderr, "a sound package is refused: %s\n", outcome.text.c_str()), kExitFound;
    }
  }
  std::map<std::int32_t, unsigned long long> counts;
  // One case alone: `tilewright-fuzz 1 SEED+CASE`.
  for (current_case = 0; current_case < cases; ++current_case) {
    Random random(seed + current_case);
    const Bytes& file = corpus[random.Below(corpus.size())];
    alarm(kSecondsPerCase);
    const std::uint64_t kind = random.Below(100);
    const Outcome outcome = kind < 55   ? RunPackage(MutatePackage(&random, file), &random)
                            : kind < 95 ? RunParts(file, &random)
                                        : ReadArray(&random);
    alarm(0);
    ++counts[outcome.kind];
    if (outcome.kind == TW_RT_INTERNAL || (outcome.kind != TW_RT_OK && outcome.text.empty())) {
      Tell(outcome.text.empty() ? "refused without a message" : outcome.text.c_str());
      return kExitFound;
    }
  }
  std::printf("%llu cases:", cases);
  constexpr const char* kNames[] = {"run", "package refused", "data refused", "fault of the machine", "no memory"};
  for (const auto& [kind, count] : counts) {
    std::printf(" %llu %s%s", count, kind < 5 ? kNames[kind] : "other", kind == counts.rbegin()->first ? "\n" : ",");
  }
  return 0;
}

}  // namespace
}  // namespace tilewright::fuzz

int main(int argc, char** argv) { return tilewright::fuzz::Main(argc, argv); }
