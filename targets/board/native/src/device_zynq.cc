#include "device_zynq.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "device_memory.h"
#include "tilewright/registers.h"

namespace tilewright::runtime {
namespace {

namespace reg = registers;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::size_t kInstructionBytes = 64;
constexpr milliseconds kResetTime{1000};     // the contract says 1 ms; a device model may be in the middle of a layer
constexpr milliseconds kInterruptPause{10};  // FINISHED is looked at this often, whatever interrupts do
constexpr microseconds kLeastPause{20}, kMostPause{1000};

// Everything written before is visible to the device before anything that follows, and what it wrote is read afresh.
void Barrier() {
#if defined(__aarch64__) || (defined(__arm__) && defined(__ARM_ARCH) && __ARM_ARCH >= 7)
  __asm__ volatile("dsb sy" ::: "memory");
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

std::uint64_t RoundUp(std::uint64_t bytes) {
  return (bytes + reg::kAlignment - 1) / reg::kAlignment * reg::kAlignment;
}

// Where a region lies: [stream, constants] and [inputs, outputs].
struct Place {
  std::uint64_t code = 0, data = 0;
  std::uint64_t constants = 0, outputs = 0;  // offsets in the memory, as the other two

  static std::uint64_t CodeBytes(const Region& r) { return RoundUp(r.stream.size()) + RoundUp(r.constants.size()); }
  static std::uint64_t DataBytes(const Region& r) { return RoundUp(r.input_bytes) + RoundUp(r.output_bytes); }
};

class ZynqDevice final : public Device, public std::enable_shared_from_this<ZynqDevice> {
 public:
  explicit ZynqDevice(const DeviceUri& uri)
      : uri_(uri.text),
        timeout_(uri.Number("timeout_ms", 10000, 86400000)),
        spin_(uri.Number("spin_us", 50, 1000000)),
        memory_(uri) {
    const PathAt at = PathAt::Parse(uri, "registers");
    file_ = File(uri, "registers", at.path, O_RDWR | O_SYNC);
    Lock(at.number);
    mapping_ = Mapping(uri, "registers", file_, at.number, reg::kPageBytes);
    registers_ = reinterpret_cast<volatile std::uint32_t*>(mapping_.data());
    OpenInterrupt(uri, at.path);
    CheckPresent();
  }

  ~ZynqDevice() override {
    if (Present()) Write(reg::kInterruptEnable, 0);
  }

  std::vector<std::unique_ptr<Placement>> Place(const std::vector<const Region*>& regions) override;
  void Launch(const Region& region, const runtime::Place& place, std::uint64_t* generation, tw_rt_stats* stats);
  void Release(const runtime::Place& place);
  DeviceMemory& memory() { return memory_; }
  void CopyCode(const Region& region, const runtime::Place& place);

 private:
  std::uint32_t Read(std::uint32_t offset) const { return registers_[offset / 4]; }
  void Write(std::uint32_t offset, std::uint32_t value) { registers_[offset / 4] = value; }
  std::uint64_t Read64(std::uint32_t offset) const {
    const std::uint64_t low = Read(offset);
    return std::uint64_t{Read(offset + 4)} << 32 | low;
  }
  void Write64(std::uint32_t offset, std::uint64_t value) {
    Write(offset, static_cast<std::uint32_t>(value));
    Write(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  bool Present() const { return Read(reg::kMagic) == reg::kMagicValue; }
  reg::State state() const { return static_cast<reg::State>(Read(reg::kState)); }

  void Lock(std::uint64_t offset);
  void OpenInterrupt(const DeviceUri& uri, const std::string& registers);
  void CheckPresent() const;
  void CheckOverlay(const Region& region) const;
  void Reset();
  void Start(const Region& region, const runtime::Place& place);
  // False at the timeout.
  bool Wait(const Region& region);
  void Unmask();
  void Sleep(Clock::duration elapsed, Clock::duration left);
  [[noreturn]] void ReportError(const Region& region) const;
  [[noreturn]] void ReportTimeout(const Region& region) const;
  static std::string LayerOf(const Region& region, std::uint64_t instruction);
  std::string Activity(const Region& region) const;

  std::string uri_;
  milliseconds timeout_;
  microseconds spin_;
  DeviceMemory memory_;
  File file_, interrupt_;
  Mapping mapping_;
  volatile std::uint32_t* registers_ = nullptr;
  std::mutex mutex_;  // of everything below, the registers and the memory's parts
  std::uint64_t workspace_ = 0, workspace_bytes_ = 0;
  std::size_t placements_ = 0;
  std::uint32_t ticket_ = 0;
  bool suspect_ = true;            // what the device does is not known: reset it before the next launch
  std::uint64_t generation_ = 1;   // of what lies in memory; a failed launch may have damaged it
};

class ZynqPlacement final : public Placement {
 public:
  ZynqPlacement(std::shared_ptr<ZynqDevice> device, const Region& region, const runtime::Place& place)
      : device_(std::move(device)), region_(region), place_(place) {
    if (!device_->memory().direct()) {
      bounce_.resize(static_cast<std::size_t>(runtime::Place::DataBytes(region)));
    }
  }
  ~ZynqPlacement() override { device_->Release(place_); }
  std::uint8_t* inputs() override { return at(place_.data); }
  std::uint8_t* outputs() override { return at(place_.outputs); }

  void Run(tw_rt_stats* stats) override {
    const DeviceMemory& memory = device_->memory();
    if (!bounce_.empty()) memory.Write(place_.data, bounce_.data(), bounce_.size());
    device_->Launch(region_, place_, &generation_, stats);
    if (!bounce_.empty()) memory.Read(place_.outputs, outputs(), region_.output_bytes);
  }

 private:
  std::uint8_t* at(std::uint64_t offset) {
    return bounce_.empty() ? device_->memory().data(offset) : bounce_.data() + (offset - place_.data);
  }

  std::shared_ptr<ZynqDevice> device_;
  const Region& region_;
  runtime::Place place_;
  std::uint64_t generation_ = 0;
  std::vector<std::uint8_t> bounce_;  // the data of a region, where programs must not work on the memory itself
};

void ZynqDevice::Lock(std::uint64_t offset) {
#ifdef F_OFD_SETLK
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = reg::kPageBytes;
  // Where a file has no locks there is nothing to learn. Whoever is just closing it gets the time to.
  for (int attempt = 0; ::fcntl(file_.fd(), F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES); ++attempt) {
    if (attempt == 10) {
      Fail(TW_RT_DEVICE, "device ", uri_, " is in use by another process, or by this one under another text");
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
#else
  (void)offset;
#endif
}

void ZynqDevice::OpenInterrupt(const DeviceUri& uri, const std::string& registers) {
  const bool uio = registers.rfind("/dev/uio", 0) == 0;
  std::string path = uri.Text("interrupt");
  if (path.empty() && uio) path = registers;
  if (!path.empty() && path != "none") interrupt_ = File(uri, "interrupt", path, O_RDWR | O_NONBLOCK | O_NOCTTY);
}

void ZynqDevice::CheckPresent() const {
  const std::uint32_t magic = Read(reg::kMagic);
  if (magic != reg::kMagicValue) {
    Fail(TW_RT_DEVICE, "device ", uri_, ": expected a Tilewright accelerator (", reg::kMagicValue,
         " in the first register), found ", magic, "; load the bitstream, and see that the address is its register block's");
  }
  if (Read(reg::kContract) != reg::kContractValue || Read(reg::kConfigWords) != reg::kConfigWordsValue) {
    Fail(TW_RT_DEVICE, "device ", uri_, ": expected registers of version ", reg::kContractValue, " with ",
         reg::kConfigWordsValue, " words of configuration, found version ", Read(reg::kContract), " with ",
         Read(reg::kConfigWords), "; the bitstream and this runtime are of different releases");
  }
}

// A field of CONFIG in words.
std::string FieldText(const std::uint32_t* words, const reg::ConfigField& field) {
  if (!field.text) return std::to_string(static_cast<std::int32_t>(words[field.word]));
  std::string text;
  for (int i = 0; i < 4 * field.words; ++i) {
    const char c = static_cast<char>(words[field.word + i / 4] >> (8 * (i % 4)) & 0xff);
    if (c == 0) break;
    text += c >= 0x20 && c < 0x7f ? c : '?';
  }
  return text;
}

void ZynqDevice::CheckOverlay(const Region& region) const {
  if (region.overlay.size() != reg::kConfigWordsValue) {
    Fail(TW_RT_PACKAGE, "region ", region.name, ": expected an overlay of ", reg::kConfigWordsValue, " words, found ",
         region.overlay.size());
  }
  std::uint32_t same = 0;
  while (same < reg::kHashWords && Read(reg::kConfig + 4 * same) == region.overlay[same]) ++same;
  if (same == reg::kHashWords) return;
  std::vector<std::uint32_t> device(reg::kConfigWordsValue);
  for (std::uint32_t i = 0; i < reg::kConfigWordsValue; ++i) device[i] = Read(reg::kConfig + 4 * i);
  std::string differences;
  for (const reg::ConfigField& field : reg::kConfigFields) {
    const std::string here = FieldText(region.overlay.data(), field), there = FieldText(device.data(), field);
    if (here != there) differences += "; " + std::string(field.name) + ": " + here + " in the package, " + there + " on the device";
  }
  if (differences.empty()) differences = "; the hashes differ, and no field that a device shows";
  const reg::ConfigField& name = reg::kConfigFields[0];
  Fail(TW_RT_PACKAGE, "device ", uri_, " has another overlay than region ", region.name, " was compiled for", differences,
       "; load the bitstream of ", FieldText(region.overlay.data(), name), ", or compile for ",
       FieldText(device.data(), name), " as the device has it");
}

std::vector<std::unique_ptr<Placement>> ZynqDevice::Place(const std::vector<const Region*>& regions) {
  std::lock_guard<std::mutex> lock(mutex_);
  CheckPresent();
  // A launch that was given up may still write to memory that was its own.
  if (suspect_) Reset();
  std::uint64_t needed = 0, workspace = 0;
  for (const Region* region : regions) {
    CheckOverlay(*region);
    needed += runtime::Place::CodeBytes(*region) + runtime::Place::DataBytes(*region);
    workspace = std::max(workspace, RoundUp(region->workspace_bytes));
  }
  // The workspace is everybody's: one launch runs at a time, and a stream reads nothing there that it has not written.
  const std::uint64_t more = workspace > workspace_bytes_ ? workspace - workspace_bytes_ : 0;
  const std::uint64_t free = memory_.free_bytes();
  const auto too_small = [&](const char* why) {
    const std::uint64_t lacking = needed + more > free ? needed + more - free : 0;
    Fail(TW_RT_DEVICE, "device ", uri_, ": the memory is too small: ", needed, " bytes for streams, constants, inputs and outputs",
         " and ", more, " more of workspace are needed, ", free, " of ", memory_.size(), " are free", why,
         lacking > 0 ? ", " + std::to_string(lacking) + " too few" : std::string(),
         "; make it larger (u-dma-buf: its size), or close other packages");
  };
  if (needed + more > free) too_small("");
  std::vector<runtime::Place> places;
  const auto undo = [&] {
    for (const runtime::Place& place : places) {
      memory_.Free(place.code);
      memory_.Free(place.data);
    }
  };
  if (more > 0) {
    if (workspace_bytes_ > 0) memory_.Free(workspace_);
    if (!memory_.Allocate(workspace, &workspace_)) {
      // The old one was just freed, so it is there again.
      if (workspace_bytes_ > 0) memory_.Allocate(workspace_bytes_, &workspace_);
      too_small(", but in pieces");
    }
    workspace_bytes_ = workspace;
    memory_.ToDevice(workspace_, workspace_bytes_);
  }
  for (const Region* region : regions) {
    runtime::Place place;
    if (!memory_.Allocate(runtime::Place::CodeBytes(*region), &place.code)) {
      undo();
      too_small(", but in pieces");
    }
    if (!memory_.Allocate(runtime::Place::DataBytes(*region), &place.data)) {
      memory_.Free(place.code);
      undo();
      too_small(", but in pieces");
    }
    place.constants = place.code + RoundUp(region->stream.size());
    place.outputs = place.data + RoundUp(region->input_bytes);
    places.push_back(place);
  }
  std::vector<std::unique_ptr<Placement>> placements;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    ++placements_;
    placements.push_back(std::make_unique<ZynqPlacement>(shared_from_this(), *regions[i], places[i]));
  }
  return placements;
}

void ZynqDevice::Release(const runtime::Place& place) {
  std::lock_guard<std::mutex> lock(mutex_);
  memory_.Free(place.code);
  memory_.Free(place.data);
  if (--placements_ == 0 && workspace_bytes_ > 0) {
    memory_.Free(workspace_);
    workspace_bytes_ = 0;
  }
}

void ZynqDevice::CopyCode(const Region& region, const runtime::Place& place) {
  memory_.Write(place.code, region.stream.data(), region.stream.size());
  memory_.Write(place.constants, region.constants.data(), region.constants.size());
  memory_.ToDevice(place.code, runtime::Place::CodeBytes(region));
}

void ZynqDevice::Reset() {
  CheckPresent();
  suspect_ = true;
  Write(reg::kInterruptEnable, 0);
  Write(reg::kControl, static_cast<std::uint32_t>(reg::Control::kReset));
  const Clock::time_point start = Clock::now();
  while (Read(reg::kControl) != 0 || Read(reg::kFinished) != 0 || state() != reg::State::kIdle) {
    const Clock::duration elapsed = Clock::now() - start;
    if (elapsed > kResetTime) {
      Fail(TW_RT_DEVICE, "device ", uri_, " does not answer a reset within ", kResetTime.count(),
           " ms (STATE ", reg::kStateNames[Read(reg::kState) & 3], "); load the bitstream again, or restart the device model");
    }
    if (elapsed > spin_) std::this_thread::sleep_for(kLeastPause);
  }
  Barrier();
  ticket_ = 0;
  suspect_ = false;
}

void ZynqDevice::Start(const Region& region, const runtime::Place& place) {
  Write64(reg::kStreamAddress, memory_.physical(place.code));
  Write(reg::kStreamBytes, static_cast<std::uint32_t>(region.stream.size()));
  const std::uint64_t offsets[] = {place.constants, workspace_, place.data, place.outputs};
  const std::uint64_t sizes[] = {region.constants.size(), region.workspace_bytes, region.input_bytes, region.output_bytes};
  for (std::uint32_t i = 0; i < 4; ++i) {
    Write64(reg::kBase + 8 * i, memory_.physical(sizes[i] > 0 ? offsets[i] : 0));
    Write(reg::kSize + 4 * i, static_cast<std::uint32_t>(sizes[i]));
  }
  if (++ticket_ == 0) ticket_ = 1;
  Write(reg::kTicket, ticket_);
  Barrier();
  Write(reg::kControl, static_cast<std::uint32_t>(reg::Control::kStart));
}

void ZynqDevice::Sleep(Clock::duration elapsed, Clock::duration left) {
  if (!interrupt_.open()) {
    // A sixteenth of the time so far: little work, and little time lost.
    const Clock::duration pause = std::clamp<Clock::duration>(elapsed / 16, kLeastPause, kMostPause);
    std::this_thread::sleep_for(std::min(pause, left));
    return;
  }
  const auto pause = std::min<Clock::duration>(left, kInterruptPause);
  pollfd wait = {interrupt_.fd(), POLLIN, 0};
  const auto pause_ms = std::chrono::duration_cast<milliseconds>(pause).count() + 1;
  if (::poll(&wait, 1, static_cast<int>(pause_ms)) <= 0) return;
  std::uint32_t count;
  if (::read(interrupt_.fd(), &count, sizeof count) < 0 && errno != EAGAIN) {
    interrupt_ = File();  // whatever happened to it: the launch is polled for
  } else if (Read(reg::kFinished) != ticket_) {
    Unmask();
  }
}

void ZynqDevice::Unmask() {
  const std::uint32_t unmask = 1;
  if (::write(interrupt_.fd(), &unmask, sizeof unmask) < 0 && errno != EAGAIN) interrupt_ = File();
}

bool ZynqDevice::Wait(const Region& region) {
  const Clock::time_point start = Clock::now();
  bool asked = false;
  while (Read(reg::kFinished) != ticket_) {
    const Clock::duration elapsed = Clock::now() - start;
    if (elapsed < spin_) {
      std::this_thread::yield();
      continue;
    }
    if (elapsed >= timeout_) return Read(reg::kFinished) == ticket_;
    if (Read(reg::kControl) == 0) {
      Barrier();
      if (state() == reg::State::kIdle && Read(reg::kFinished) != ticket_) {
        Fail(TW_RT_DEVICE, "device ", uri_, ", region ", region.name,
             ": the launch is lost: the device was reset while it ran; run again");
      }
    }
    if (interrupt_.open() && !asked) {
      Unmask();
      Write(reg::kInterruptEnable, 1);
      asked = true;
      continue;
    }
    Sleep(elapsed, timeout_ - elapsed);
  }
  if (asked) Write(reg::kInterruptEnable, 0);
  Barrier();
  return true;
}

std::string ZynqDevice::LayerOf(const Region& region, std::uint64_t instruction) {
  if (instruction >= region.layer_of.size()) return "";
  return " (layer " + region.layers[region.layer_of[static_cast<std::size_t>(instruction)]] + ")";
}

void ZynqDevice::ReportError(const Region& region) const {
  const std::uint32_t code = Read(reg::kErrorCode), instruction = Read(reg::kErrorInstruction);
  std::ostringstream text;
  text << "device " << uri_ << ", region " << region.name;
  if (instruction != UINT32_MAX) text << ", instruction " << instruction << LayerOf(region, instruction);
  const auto* known =
      std::find_if(std::begin(reg::kErrors), std::end(reg::kErrors), [&](const auto& e) { return e.code == code; });
  if (known != std::end(reg::kErrors)) {
    text << ": error " << known->name << ": " << known->meaning;
  } else {
    text << ": unknown error " << code;
  }
  if (code == static_cast<std::uint32_t>(reg::Error::kBus)) {
    text << "; physical address 0x" << std::hex << Read64(reg::kErrorAddress);
  }
  Fail(TW_RT_DEVICE, text.str());
}

std::string ZynqDevice::Activity(const Region& region) const {
  static constexpr const char* kUnits[] = {"LOAD", "MATRIX", "VECTOR", "STORE"};
  static constexpr const char* kDoing[] = {"has nothing to do", "is busy", "waits for a token", "waits for DRAM"};
  const std::uint32_t fetched = Read(reg::kFetched), units = Read(reg::kUnits);
  std::ostringstream text;
  text << fetched << " of " << region.stream.size() / kInstructionBytes << " instructions fetched";
  if (fetched > 0) text << LayerOf(region, fetched - 1);
  for (std::uint32_t i = 0; i < 4; ++i) {
    text << "; " << kUnits[i] << " retired " << Read(reg::kRetired + 4 * i) << ", " << kDoing[units >> (8 * i) & 3];
  }
  return text.str();
}

void ZynqDevice::ReportTimeout(const Region& region) const {
  std::ostringstream text;
  text << "device " << uri_ << ", region " << region.name << ": no end within " << timeout_.count() << " ms: ";
  if (!Present()) {
    text << "the registers are gone; load the bitstream";
  } else if (Read(reg::kControl) != 0) {
    text << "START was not taken (STATE " << reg::kStateNames[Read(reg::kState) & 3]
         << "): has the accelerator a clock, is it alive?";
  } else {
    text << "STATE " << reg::kStateNames[Read(reg::kState) & 3] << ", " << Activity(region)
         << "; give timeout_ms= if it needs longer";
  }
  Fail(TW_RT_DEVICE, text.str());
}

void ZynqDevice::Launch(const Region& region, const runtime::Place& place, std::uint64_t* generation,
                        tw_rt_stats* stats) {
  std::lock_guard<std::mutex> lock(mutex_);
  CheckPresent();
  CheckOverlay(region);  // it may be another bitstream by now
  if (suspect_ || (state() != reg::State::kIdle && state() != reg::State::kDone)) Reset();
  if (*generation != generation_) {
    CopyCode(region, place);
    *generation = generation_;
  }
  memory_.ToDevice(place.data, runtime::Place::DataBytes(region));
  suspect_ = true;  // until it has ended well
  ++generation_;
  Start(region, place);
  if (!Wait(region)) ReportTimeout(region);
  if (state() != reg::State::kDone) ReportError(region);
  suspect_ = false;
  *generation = --generation_;
  stats->instructions += static_cast<std::int64_t>(region.stream.size() / kInstructionBytes);
  const auto add = [&](std::int64_t* to, std::uint32_t counter) { *to += static_cast<std::int64_t>(Read64(counter)); };
  add(&stats->matrix_steps, reg::kMatrixSteps);
  add(&stats->vector_reads, reg::kVectorReads);
  add(&stats->dram_read_bytes, reg::kDramReadBytes);
  add(&stats->dram_write_bytes, reg::kDramWriteBytes);
  add(&stats->fetch_bytes, reg::kFetchBytes);
  add(&stats->cycles, reg::kCycles);
  memory_.ToCpu(place.outputs, region.output_bytes);
}

}  // namespace

std::shared_ptr<Device> OpenZynqDevice(const DeviceUri& uri) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<ZynqDevice>> open;
  std::lock_guard<std::mutex> lock(mutex);
  for (auto entry = open.begin(); entry != open.end();) entry = entry->second.expired() ? open.erase(entry) : std::next(entry);
  std::weak_ptr<ZynqDevice>& known = open[uri.text];
  std::shared_ptr<ZynqDevice> device = known.lock();
  if (!device) known = device = std::make_shared<ZynqDevice>(uri);
  return device;
}

}  // namespace tilewright::runtime
