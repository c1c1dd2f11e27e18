// The accelerator as a process: owns a register page and a DMA memory, both files that the host maps too, and executes
// streams with the fast simulator; targets/registers.md is what it is held to. The runtime's Zynq back end works on it as on
// a board. python/tilewright/runtime/device_model.py starts it.
//
//   tilewright-device-model CONFIG REGISTERS MEMORY PHYSICAL [zero-time] [interrupt] [sync=FILE]
//
// CONFIG: u32 number of words, the CONFIG registers, 29 figures of the timing simulator (i32). `zero-time`: launches end at
// once and nothing is executed. `interrupt`: a terminal stands for the UIO file; its name is printed. `sync`: the memory is
// not coherent: the device sees what the host wrote only where that file, u-dma-buf's sync_for_device, says so.
//
// Commands on stdin, each answered with a line; it ends with stdin:
//   fault NAME [NUMBER..]   for the next launch, see Model::Begin
//   revive                  after a fault that lasts
//   config                  reads CONFIG again: another bitstream
//   spurious                raises an interrupt for nothing
//   launches                answers how many were taken
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tilewright/registers.h"
#include "tilewright/simulator.h"
#include "tilewright/timing.h"

namespace {

namespace reg = tilewright::registers;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kTimingFigures = sizeof(tilewright::TimingConfig) / sizeof(std::int32_t);
constexpr std::int64_t kCycleLimit = std::int64_t{1} << 40;
constexpr std::int32_t kAccVectors = 1024, kRecordBytes = 16;  // of every overlay
constexpr std::uint8_t kUnknown = 0xEE;  // what a device reads where nothing was made visible to it

[[noreturn]] void Die(const std::string& text) {
  std::fprintf(stderr, "tilewright-device-model: %s\n", text.c_str());
  std::exit(2);
}

std::uint8_t* Map(const std::string& path, std::size_t* size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || ::fstat(fd, &status) != 0) Die(path + " cannot be opened");
  *size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) Die(path + " cannot be mapped");
  ::close(fd);
  return static_cast<std::uint8_t*>(data);
}

// A UIO file as the host sees it: it reads how many interrupts there were and writes 1 to unmask the line.
class Interrupt {
 public:
  void Open() {
    host_ = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (host_ < 0 || ::grantpt(host_) != 0 || ::unlockpt(host_) != 0) Die("no terminal for interrupts");
    name_ = ::ptsname(host_);
    // Kept open, so that it outlives the host's.
    const int other = ::open(name_.c_str(), O_RDWR | O_NOCTTY);
    termios raw;
    if (other < 0 || ::tcgetattr(other, &raw) != 0) Die("the terminal for interrupts cannot be opened");
    ::cfmakeraw(&raw);
    ::tcsetattr(other, TCSANOW, &raw);
  }
  const std::string& name() const { return name_; }

  void Line(bool high) {
    if (host_ < 0) return;
    std::uint32_t word;
    while (::read(host_, &word, sizeof word) == sizeof word) unmasked_ = word != 0;
    if (high && unmasked_) Raise();
  }
  void Raise() {
    unmasked_ = false;
    ++count_;
    if (host_ >= 0 && ::write(host_, &count_, sizeof count_) < 0) Die("an interrupt cannot be raised");
  }

 private:
  int host_ = -1;
  std::string name_;
  bool unmasked_ = true;
  std::uint32_t count_ = 0;
};

struct Ending {
  reg::Error error = reg::Error::kNone;
  std::uint32_t instruction = UINT32_MAX;
  std::uint64_t address = 0;
};

class Model {
 public:
  Model(std::string config, const std::string& registers, const std::string& memory, std::uint64_t physical)
      : config_(std::move(config)), physical_(physical) {
    std::size_t page = 0;
    page_ = reinterpret_cast<std::uint32_t*>(Map(registers, &page));
    if (page < reg::kPageBytes) Die(registers + " is smaller than a page");
    shared_ = memory_ = Map(memory, &size_);
  }

  void Options(bool zero_time, bool interrupt, const std::string& sync) {
    zero_time_ = zero_time;
    if (interrupt) interrupt_.Open();
    if (sync.empty()) return;
    sync_.open(sync);
    if (!sync_) Die(sync + " cannot be opened");
    private_.assign(size_, kUnknown);
    memory_ = private_.data();
  }
  const std::string& interrupt() const { return interrupt_.name(); }

  // Configures the device.
  void Configure() {
    std::ifstream file(config_, std::ios::binary);
    std::uint32_t words = 0;
    file.read(reinterpret_cast<char*>(&words), sizeof words);
    if (!file || words != reg::kConfigWordsValue) Die("another number of configuration words");
    config_words_.resize(words);
    file.read(reinterpret_cast<char*>(config_words_.data()), static_cast<std::streamsize>(4 * words));
    file.read(reinterpret_cast<char*>(&timing_), sizeof timing_);
    if (!file) Die("the configuration is too short");
    times_.clear();
    simulator_.reset();
    Revive();
  }

  void Revive() {
    mode_ = Mode::kReady;
    if (ignored_) fault_.clear();
    ignored_ = false;
    std::fill_n(page_, reg::kPageBytes / 4, 0u);
    for (std::size_t i = 0; i < config_words_.size(); ++i) Set(reg::kConfig + 4 * static_cast<std::uint32_t>(i), config_words_[i]);
    Set(reg::kConfigWords, reg::kConfigWordsValue);
    Set(reg::kContract, reg::kContractValue);
    Set(reg::kMagic, reg::kMagicValue);
  }

  // Takes a command of the host if there is one.
  bool Poll() {
    if (mode_ == Mode::kDead) return false;
    const std::uint32_t command = Get(reg::kControl);
    const bool taken = command != 0 && Take(command);
    const bool high = Get(reg::kInterruptEnable) != 0 && Get(reg::kInterruptStatus) != 0;
    if (!lose_interrupt_) interrupt_.Line(high);
    return taken;
  }

  std::string Command(const std::string& line) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name == "fault") {
      fault_.clear();
      words >> fault_;
      numbers_.clear();
      for (std::uint64_t number; words >> number;) numbers_.push_back(number);
      return "ok";
    }
    if (name == "revive") {
      Revive();
    } else if (name == "config") {
      Configure();
    } else if (name == "spurious") {
      interrupt_.Raise();
    } else if (name == "launches") {
      return std::to_string(launches_);
    } else {
      return "unknown command " + name;
    }
    return "ok";
  }

 private:
  // kHung: RUNNING until a reset. kDead: no command is taken any more.
  enum class Mode { kReady, kHung, kDead };

  std::uint32_t Get(std::uint32_t offset) const { return __atomic_load_n(&page_[offset / 4], __ATOMIC_SEQ_CST); }
  void Set(std::uint32_t offset, std::uint32_t value) { __atomic_store_n(&page_[offset / 4], value, __ATOMIC_SEQ_CST); }
  std::uint64_t Get64(std::uint32_t offset) const { return std::uint64_t{Get(offset + 4)} << 32 | Get(offset); }
  void Set64(std::uint32_t offset, std::uint64_t value) {
    Set(offset, static_cast<std::uint32_t>(value));
    Set(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  std::uint64_t Number(std::size_t index, std::uint64_t otherwise) const {
    return index < numbers_.size() ? numbers_[index] : otherwise;
  }

  bool Take(std::uint32_t command) {
    if ((command & static_cast<std::uint32_t>(reg::Control::kReset)) != 0) {
      Clear();
      Set(reg::kState, static_cast<std::uint32_t>(reg::State::kIdle));
      mode_ = Mode::kReady;
      if (ignored_) fault_.clear();
      ignored_ = false;
    } else if (!Begin()) {
      return false;
    }
    // The host may have written another command by now; that one stays.
    __atomic_compare_exchange_n(&page_[reg::kControl / 4], &command, 0u, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (running_) Work();
    return true;
  }

  void Clear() {
    for (std::uint32_t offset : {reg::kFinished, reg::kInterruptStatus, reg::kUnits, reg::kFetched, reg::kErrorCode,
                                 reg::kErrorInstruction}) {
      Set(offset, 0);
    }
    Set64(reg::kErrorAddress, 0);
    for (std::uint32_t offset : {reg::kCycles, reg::kDramReadBytes, reg::kDramWriteBytes, reg::kFetchBytes,
                                 reg::kMatrixSteps, reg::kVectorReads}) {
      Set64(offset, 0);
    }
    for (std::uint32_t i = 0; i < 4; ++i) Set(reg::kRetired + 4 * i, 0);
  }

  // START. Returns false where it is not taken: the fault `ignore`.
  bool Begin() {
    if (mode_ == Mode::kHung) return true;
    const auto state = static_cast<reg::State>(Get(reg::kState));
    if (state != reg::State::kIdle && state != reg::State::kDone) return true;
    if (fault_ == "ignore" || fault_ == "dead") {
      ignored_ = true;
      if (fault_ == "dead") mode_ = Mode::kDead;
      return false;
    }
    ++launches_;
    lose_interrupt_ = false;
    ticket_ = Get(reg::kTicket);
    Clear();
    Set(reg::kState, static_cast<std::uint32_t>(reg::State::kRunning));
    running_ = true;
    return true;
  }

  // The rest of a launch, with the fault that was asked for:
  //   hang N              stays in RUNNING after N instructions
  //   ignore, dead        START is not taken; dead: nothing is, until `revive`
  //   error CODE N ADDR   ends with that error at instruction N
  //   scribble            writes over all memory, then ends with a BUS error
  //   vanish              the registers read as ones until `revive`
  //   reset               forgets the launch, as after a reset by somebody else
  //   stale               ends with the ticket before and goes on
  //   die N               the process ends after N instructions
  //   slow MS             takes so long more
  //   lost                without an interrupt
  void Work() {
    running_ = false;
    const std::string fault = fault_;
    fault_.clear();
    if (fault == "hang" || fault == "die" || fault == "stale") {
      Set(reg::kFetched, static_cast<std::uint32_t>(Number(0, 0)));
      Set(reg::kUnits, static_cast<std::uint32_t>(reg::UnitState::kToken) << 8 |
                           static_cast<std::uint32_t>(reg::UnitState::kDram));
      if (fault == "die") ::_exit(3);
      if (fault == "stale") Set(reg::kFinished, ticket_ - 1);
      mode_ = Mode::kHung;
      return;
    }
    if (fault == "vanish") {
      std::fill_n(page_, reg::kPageBytes / 4, UINT32_MAX);
      mode_ = Mode::kDead;
      return;
    }
    if (fault == "reset") {
      Clear();
      Set(reg::kState, static_cast<std::uint32_t>(reg::State::kIdle));
      return;
    }
    if (fault == "scribble") {
      std::fill_n(shared_, size_, std::uint8_t{0xA5});
      std::fill(private_.begin(), private_.end(), std::uint8_t{0xA5});
      return End({reg::Error::kBus, 0, physical_ + size_});
    }
    if (fault == "error") {
      return End({static_cast<reg::Error>(Number(0, 17)), static_cast<std::uint32_t>(Number(1, 0)), Number(2, 0)});
    }
    if (fault == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(Number(0, 10)));
    if (fault == "lost") lose_interrupt_ = true;
    End(zero_time_ ? Ending() : Execute());
  }

  void End(const Ending& ending) {
    const bool failed = ending.error != reg::Error::kNone;
    Set(reg::kErrorCode, static_cast<std::uint32_t>(ending.error));
    Set(reg::kErrorInstruction, failed ? ending.instruction : 0);
    Set64(reg::kErrorAddress, ending.address);
    Set(reg::kState, static_cast<std::uint32_t>(failed ? reg::State::kError : reg::State::kDone));
    Set(reg::kInterruptStatus, 1);
    Set(reg::kFinished, ticket_);
  }

  // Null where the bytes are not all in the memory.
  std::uint8_t* At(std::uint64_t address, std::uint64_t bytes) const {
    if (address < physical_ || address - physical_ > size_ || bytes > size_ - (address - physical_)) return nullptr;
    return memory_ + (address - physical_);
  }

  // What the host's cache maintenance has made visible since the last launch.
  void Refresh() {
    if (!sync_.is_open()) return;
    for (std::string line; std::getline(sync_, line);) {
      const std::uint64_t value = std::strtoull(line.c_str(), nullptr, 16);
      const std::uint64_t offset = value >> 32, bytes = value & 0xFFFFFFF0;
      if (offset > size_ || bytes > size_ - offset) Die("cache maintenance outside of the memory");
      std::copy_n(shared_ + offset, bytes, private_.data() + offset);
    }
    sync_.clear();
  }

  Ending Execute() {
    Refresh();
    const std::uint64_t stream_at = Get64(reg::kStreamAddress);
    const std::uint32_t bytes = Get(reg::kStreamBytes);
    if (stream_at % reg::kAlignment != 0 || bytes == 0) return {reg::Error::kLaunch};
    const std::uint8_t* stream = At(stream_at, bytes);
    if (stream == nullptr) return {reg::Error::kBus, UINT32_MAX, stream_at};
    tilewright::Segments segments;
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint64_t base = Get64(reg::kBase + 8 * i);
      const std::uint32_t size = Get(reg::kSize + 4 * i);
      if (size == 0) continue;
      if (base % reg::kAlignment != 0) return {reg::Error::kLaunch};
      segments[i] = {At(base, size), size};
      if (segments[i].data == nullptr) return {reg::Error::kBus, UINT32_MAX, base};
    }
    tilewright::Fault fault;
    if (simulator_ == nullptr) simulator_ = tilewright::Simulator::Create(Machine(), &fault);
    if (simulator_ == nullptr) Die(fault.text);
    tilewright::Stats stats;
    const bool ran = simulator_->Run(stream, bytes, segments, &stats, &fault);
    const auto fetched = static_cast<std::uint32_t>(ran ? bytes / 64 : static_cast<std::uint64_t>(std::max<std::int64_t>(fault.instruction, 0)) + 1);
    Set(reg::kFetched, fetched);
    for (std::uint32_t i = 0; i < 4; ++i) Set(reg::kRetired + 4 * i, static_cast<std::uint32_t>(stats.instructions[i]));
    Set64(reg::kDramReadBytes, static_cast<std::uint64_t>(stats.dram_read_bytes));
    Set64(reg::kDramWriteBytes, static_cast<std::uint64_t>(stats.dram_write_bytes));
    Set64(reg::kFetchBytes, static_cast<std::uint64_t>(stats.fetch_bytes));
    Set64(reg::kMatrixSteps, static_cast<std::uint64_t>(stats.matrix_steps));
    Set64(reg::kVectorReads, static_cast<std::uint64_t>(stats.vector_reads));
    if (memory_ != shared_ && segments[3].size > 0) {
      std::copy_n(segments[3].data, segments[3].size, shared_ + (segments[3].data - memory_));
    }
    if (!ran) {
      const bool shared_code = static_cast<int>(fault.kind) <= static_cast<int>(reg::Error::kFinish);
      return {shared_code ? static_cast<reg::Error>(fault.kind) : reg::Error::kInternal,
              fault.instruction < 0 ? UINT32_MAX : static_cast<std::uint32_t>(fault.instruction)};
    }
    Set64(reg::kCycles, static_cast<std::uint64_t>(Cycles(stream, bytes)));
    return {};
  }

  // Time depends on the stream alone, so each is timed once.
  std::int64_t Cycles(const std::uint8_t* stream, std::size_t bytes) {
    std::string key(reinterpret_cast<const char*>(stream), bytes);
    const auto known = times_.find(key);
    if (known != times_.end()) return known->second;
    tilewright::Timing timing;
    tilewright::Fault fault;
    if (!tilewright::RunTiming(timing_, stream, bytes, kCycleLimit, true, &timing, &fault)) Die(fault.text);
    return times_[std::move(key)] = timing.cycles;
  }

  // What decides results, from the configuration; sizes as targets/config.py works them out.
  tilewright::Overlay Machine() const {
    std::map<std::string, std::int32_t> field;
    for (const reg::ConfigField& f : reg::kConfigFields) {
      if (!f.text) field[f.name] = static_cast<std::int32_t>(config_words_[static_cast<std::size_t>(f.word)]);
    }
    tilewright::Overlay o{};
    o.block_in = field["block_in"];
    o.block_out = field["block_out"];
    o.inp_bits = field["inp_bits"];
    o.wgt_bits = field["wgt_bits"];
    o.acc_bits = field["acc_bits"];
    o.act_half_words = field["act_kib"] * 1024 / o.half_word_bytes();
    o.wgt_tiles = field["wgt_kib"] * 1024 / o.tile_bytes();
    o.acc_vectors = kAccVectors;
    o.param_records = field["param_kib"] * 1024 / kRecordBytes;
    o.disp_entries = field["disp_entries"];
    o.displacement_min = field["displacement_min"];
    o.displacement_max = field["displacement_max"];
    return o;
  }

  std::string config_;
  std::uint64_t physical_;
  std::uint32_t* page_ = nullptr;
  std::uint8_t *memory_ = nullptr, *shared_ = nullptr;  // as the device and as the host sees it
  std::size_t size_ = 0;
  std::vector<std::uint8_t> private_;
  std::ifstream sync_;
  bool zero_time_ = false, lose_interrupt_ = false, running_ = false, ignored_ = false;
  Interrupt interrupt_;
  std::vector<std::uint32_t> config_words_;
  tilewright::TimingConfig timing_{};
  std::map<std::string, std::int64_t> times_;
  std::unique_ptr<tilewright::Simulator> simulator_;
  Mode mode_ = Mode::kReady;
  std::string fault_;
  std::vector<std::uint64_t> numbers_;
  std::uint32_t ticket_ = 0;
  std::uint64_t launches_ = 0;
};

// A line from stdin, if there is one. Returns false at its end.
bool ReadLine(std::string* pending, std::string* line) {
  line->clear();
  pollfd wait = {STDIN_FILENO, POLLIN, 0};
  if (::poll(&wait, 1, 0) > 0) {
    char bytes[256];
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count <= 0) return false;
    pending->append(bytes, static_cast<std::size_t>(count));
  }
  const std::size_t end = pending->find('\n');
  if (end == std::string::npos) return true;
  *line = pending->substr(0, end);
  pending->erase(0, end + 1);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 5) Die("expected CONFIG REGISTERS MEMORY PHYSICAL");
  Model model(arguments[1], arguments[2], arguments[3], std::strtoull(arguments[4], nullptr, 0));
  bool zero_time = false, interrupt = false;
  std::string sync;
  for (int i = 5; i < count; ++i) {
    const std::string option = arguments[i];
    zero_time |= option == "zero-time";
    interrupt |= option == "interrupt";
    if (option.rfind("sync=", 0) == 0) sync = option.substr(5);
  }
  model.Options(zero_time, interrupt, sync);
  model.Configure();
  std::cout << "ready " << model.interrupt() << std::endl;
  std::string pending, line;
  Clock::time_point active = Clock::now();
  for (unsigned turn = 0;; ++turn) {
    if (model.Poll()) active = Clock::now();
    const Clock::duration idle = Clock::now() - active;
    const bool resting = idle > std::chrono::milliseconds(2);
    if (resting || turn % 64 == 0) {
      if (!ReadLine(&pending, &line)) return 0;
      if (!line.empty()) {
        std::cout << model.Command(line) << std::endl;
        active = Clock::now();
      }
    }
    // At rest it looks every 50 us, and every ms after a second, so that one that nobody uses takes no time.
    if (resting) {
      std::this_thread::sleep_for(std::chrono::microseconds(idle > std::chrono::seconds(1) ? 1000 : 50));
    } else {
      ::sched_yield();
    }
  }
}
