#include "tilewright/timing.h"

#include <string>

#include "encoding.h"
#include "isa.h"
#include "timing_check.h"
#include "timing_dma.h"
#include "timing_period.h"
#include "timing_readers.h"

namespace tilewright {
namespace {

enum UnitNumber : int { kLoad, kMatrix, kVector, kStore };
constexpr int kUnits = 4;

struct Queued {
  std::int64_t index;
  std::uint32_t wait;
};
struct Retiring {
  std::int64_t time, index;
};

class TimingMachine {
 public:
  TimingMachine(const TimingConfig& config, const std::uint8_t* stream, std::size_t size, bool leap,
                Timing* timing)
      : c_(config),
        stream_(stream),
        count_(static_cast<std::int64_t>(size / isa::kInstructionBytes)),
        out_(*timing),
        leaps_(leap),
        banks_(config),
        readers_(config, banks_, leap),
        load_(config, banks_),
        store_(config, banks_),
        dram_(config),
        beat_(config.dram_read_bytes_per_cycle),
        fetch_burst_(config.dram_burst_bytes / isa::kInstructionBytes) {
    units_.reserve(static_cast<std::size_t>(count_));
    for (std::int64_t n = 0; n < count_; ++n) units_.push_back(static_cast<std::int8_t>(UnitOf(At(n))));
  }

  // Returns false where `limit` cycles pass before FINISH.
  bool Run(std::int64_t limit) {
    std::int64_t now = 0;
    while (!finished_) {
      if (now >= limit) return false;
      Step(now++);
      if (!leaps_ || finished_) continue;
      now = Coast(now, limit);
    }
    out_.cycles = now;
    return true;
  }

 private:
  const std::uint8_t* At(std::int64_t index) const { return stream_ + index * isa::kInstructionBytes; }
  static int UnitOf(const std::uint8_t* bytes) {
    switch (static_cast<isa::Opcode>(isa::GetOpcode(bytes))) {
      case isa::Opcode::kLoad: return kLoad;
      case isa::Opcode::kMatrix: return kMatrix;
      case isa::Opcode::kVector: return kVector;
      case isa::Opcode::kStore: return kStore;
      default: return -1;
    }
  }
  static std::uint32_t Give(const std::uint8_t* bytes) {
    return static_cast<std::uint32_t>(
        isa::GetBits(bytes, isa::kLoadFields[1].offset, isa::kLoadFields[1].width));
  }
  static std::uint32_t Wait(const std::uint8_t* bytes) {
    return static_cast<std::uint32_t>(
        isa::GetBits(bytes, isa::kLoadFields[0].offset, isa::kLoadFields[0].width));
  }

  // The unit whose token the unit's next instruction lacks, or -1.
  int Lacks(int unit) const {
    const std::uint32_t wait = queues_[unit].front().wait;
    for (int from = 0; from < kUnits; ++from)
      if (wait >> from & 1 && tokens_[from][unit] == 0) return from;
    return -1;
  }
  bool Accepts(int unit, std::int64_t now) const {
    switch (unit) {
      case kLoad: return load_.Accepts();
      case kMatrix: return !readers_.matrix().active();
      case kVector: return readers_.vector().Starts(next_vector_, now);
      default: return store_.Accepts();
    }
  }
  // What a unit without work does.
  Activity Idle(int unit) const {
    if (queues_[unit].empty()) return Activity::kEmpty;
    const int from = Lacks(unit);
    return from < 0 ? Activity::kStart : static_cast<Activity>(static_cast<int>(Activity::kTokenLoad) + from);
  }
  void Count(int unit, Activity activity, std::int64_t cycles) {
    out_.activity[static_cast<std::size_t>(unit)][static_cast<std::size_t>(activity)] += cycles;
  }

  // Starts what can start, and notes what the units without work wait for. Needed only where something changed in
  // the cycle before: a dispatch, a token, a unit that is free; or when the table may be loaded.
  void Start(std::int64_t now) {
    changed_ = false;
    for (int unit = 0; unit < kUnits; ++unit) {
      auto& queue = queues_[unit];
      if (queue.empty() || !Accepts(unit, now) || Lacks(unit) >= 0) continue;
      const Queued next = queue.front();
      queue.pop_front();
      for (int from = 0; from < kUnits; ++from)
        tokens_[from][unit] -= static_cast<int>(next.wait >> from & 1);
      out_.instructions[static_cast<std::size_t>(next.index)].start = now;
      const std::uint8_t* bytes = At(next.index);
      switch (unit) {
        case kLoad: load_.Start(isa::DecodeLoad(bytes), next.index, now); break;
        case kMatrix: readers_.StartMatrix(isa::DecodeMatrix(bytes), now); break;
        case kVector:
          readers_.StartVector(next_vector_, now);
          if (!queue.empty()) next_vector_ = isa::DecodeVector(At(queue.front().index));
          break;
        default: store_.Start(isa::DecodeStore(bytes), next.index, now);
      }
      running_[unit] = next.index;
    }
    for (int unit = 0; unit < kUnits; ++unit) idle_[unit] = Idle(unit);
    const bool table = !queues_[kVector].empty() && !readers_.vector().active() && next_vector_.table;
    table_at_ = table && now <= readers_.vector().written() ? readers_.vector().written() + 1 : kNever;
  }

  void Retire(int unit, std::int64_t index, std::int64_t now) {
    out_.instructions[static_cast<std::size_t>(index)].end = now;
    const std::uint32_t give = Give(At(index));
    for (int to = 0; to < kUnits; ++to) tokens_[unit][to] += static_cast<int>(give >> to & 1);
    changed_ = true;
  }

  bool Idle() const {
    for (const auto& queue : queues_)
      if (!queue.empty()) return false;
    return !load_.active() && !readers_.matrix().active() && !readers_.vector().active() && !store_.active() &&
           retiring_[kMatrix].empty() && retiring_[kVector].empty();
  }
  bool CanDispatch() const {
    if (received_ < (dispatched_ + 1) * isa::kInstructionBytes) return false;
    const int unit = units_[static_cast<std::size_t>(dispatched_)];
    return unit < 0 ? Idle() : queues_[unit].size() < static_cast<std::size_t>(c_.queue_depth);
  }
  void Dispatch(std::int64_t now) {
    if (!CanDispatch()) return;
    const std::uint8_t* bytes = At(dispatched_);
    InstructionTime& time = out_.instructions[static_cast<std::size_t>(dispatched_)];
    time.dispatched = now;
    const int unit = UnitOf(bytes);
    if (unit < 0) {
      time.start = time.end = now;
      finished_ = true;
    } else {
      if (unit == kVector && queues_[unit].empty()) next_vector_ = isa::DecodeVector(bytes);
      queues_[unit].push_back({dispatched_, Wait(bytes)});
    }
    ++dispatched_;
    changed_ = true;
  }

  std::int64_t FetchCount() const {
    return std::min(fetch_burst_, count_ - requested_);
  }
  bool FetchWants() const {
    return requested_ < count_ && requested_ - dispatched_ + FetchCount() <= c_.fetch_instructions;
  }
  bool FetchRequests() const { return FetchWants() && dram_.CanRead(0); }
  void Request(std::int64_t now) {
    if (FetchRequests()) {
      Burst burst;
      burst.bytes = FetchCount() * isa::kInstructionBytes;
      burst.beats = (burst.bytes + c_.dram_read_bytes_per_cycle - 1) / c_.dram_read_bytes_per_cycle;
      requested_ += FetchCount();
      out_.fetch_bytes += burst.bytes;
      dram_.Read(Reader::kFetch, 0, burst, now);
    } else if (const int port = load_.Wants(now) ? dram_.Freest() : -1; port >= 0) {
      RequestLoad(port, now);
    }
    RequestWrite(now);
  }
  void RequestLoad(int port, std::int64_t now) {
    const Burst burst = load_.Request(port, now);
    changed_ = changed_ || !load_.forming();
    out_.dram_read_bytes += burst.bytes;
    dram_.Read(Reader::kLoad, port, burst, now);
  }
  void RequestWrite(std::int64_t now) {
    if (!store_.Wants() || !dram_.CanWrite()) return;
    const Burst burst = store_.Request();
    out_.dram_write_bytes += burst.bytes;
    dram_.Write(burst, now);
  }
  // Whether STORE or DRAM's writes do something in the next cycles, but for answers; `held`: STORE has no port.
  bool StoreMoves(std::int64_t now, bool held) const {
    return dram_.Writes() || (!held && store_.ReadsAt(now) <= now) || (store_.Wants() && dram_.CanWrite());
  }

  // DRAM's cycle; returns what moved.
  Dram::Moved Move(std::int64_t now) {
    const Dram::Moved moved = dram_.Step(now, &load_);
    received_ += moved.fetched;
    store_.Sent(moved.written);
    for (int k = 0; k < moved.answered; ++k) store_.Answered();
    return moved;
  }

  void Step(std::int64_t now) {
    if (changed_ || now >= table_at_) Start(now);
    // A unit without work of its own is judged by what the cycle began with.
    Readers::Cycle matrix{idle_[kMatrix], false}, vector{idle_[kVector], false};
    const bool store_tries = store_.ReadsAt(now) <= now;
    const BankMask reads = readers_.Step(now, store_tries ? store_.next() : 0, &matrix, &vector);
    Count(kMatrix, matrix.activity, 1);
    Count(kVector, vector.activity, 1);
    if (matrix.last) retiring_[kMatrix].push_back({now + c_.matrix_depth, running_[kMatrix]});
    if (vector.last) retiring_[kVector].push_back({readers_.vector().written(), running_[kVector]});
    changed_ = changed_ || matrix.last || vector.last;
    FinishCycle(now, store_tries, reads, Written(now));
    for (int unit : {kMatrix, kVector}) {
      auto& queue = retiring_[unit];
      if (!queue.empty() && queue.front().time <= now) {
        Retire(unit, queue.front().index, now);
        queue.pop_front();
      }
    }
  }

  // STORE's, LOAD's, FETCH's and DRAM's part of a cycle: `read` and `written` are banks of ACT that MATRIX and VECTOR
  // take.
  void FinishCycle(std::int64_t now, bool store_tries, BankMask read, BankMask written) {
    const Activity load = load_.active() ? Activity::kDram : idle_[kLoad];
    const Activity store = store_.active() ? Activity::kDram : idle_[kStore];
    bool store_held = false;
    const bool store_read = store_tries && store_.Read(now, read, &store_held);
    if (store_read && !store_.reading()) changed_ = true;
    const bool load_held = load_.Drain(written);
    Dispatch(now);
    const Dram::Moved moved = Move(now);
    Request(now);
    Count(kLoad, moved.load_beat ? Activity::kBusy : load_held ? Activity::kPort : load, 1);
    Count(kStore, store_read || moved.write_beat ? Activity::kBusy : store_held ? Activity::kPort : store, 1);
    if (const std::int64_t index = load_.Retired(); index >= 0) Retire(kLoad, index, now);
    if (const std::int64_t index = store_.Retired(); index >= 0) Retire(kStore, index, now);
  }

  // Goes on from `now` as long as MATRIX and VECTOR do as they said and no unit starts or retires: only LOAD, STORE and
  // DRAM are looked at. Returns the first cycle that is not done.
  __attribute__((flatten)) std::int64_t Coast(std::int64_t now, std::int64_t limit) {
    if (changed_) return now;
    std::int64_t until = std::min({table_at_, limit, readers_.until()});
    for (int unit : {kMatrix, kVector})
      if (!retiring_[unit].empty()) until = std::min(until, retiring_[unit].front().time);
    const std::int64_t first = now;
    while (now < until && !changed_ && !CanDispatch()) {
      now = Stream(now, until);
      if (now == until || changed_ || CanDispatch()) break;
      const std::int64_t still = std::min(Still(now), until - now);
      if (still > 0) {
        now += Skip(still, now);
      } else {
        StepTransfers(now);
        ++now;
      }
    }
    Count(kMatrix, readers_.matrix().active() ? readers_.MatrixDoing() : idle_[kMatrix], now - first);
    Count(kVector, readers_.vector().active() ? readers_.VectorDoing() : idle_[kVector], now - first);
    return now;
  }

  // Banks that VECTOR writes in this cycle, as far as they are in LOAD's way.
  BankMask Written(std::int64_t now) {
    return load_.Writable() && LoadMeetsVector(now) ? readers_.Written(now) : 0;
  }
  // Whether results of VECTOR may go to the banks that LOAD writes.
  bool LoadMeetsVector(std::int64_t now) {
    return load_.writes_next() && (load_.writes() & readers_.WritesFrom(now)) != 0;
  }
  // A cycle of LOAD, STORE and DRAM within Coast.
  void StepTransfers(std::int64_t now) {
    const bool store_tries = store_.ReadsAt(now) <= now;
    FinishCycle(now, store_tries, store_tries ? readers_.Taken(store_.next(), now) : 0, Written(now));
  }

  // Goes on as long as LOAD alone has DRAM and each cycle moves some of its data; returns the first cycle not done.
  std::int64_t Stream(std::int64_t now, std::int64_t until) {
    if (!load_.active() || dram_.Fetches() || FetchWants() || store_.Wants() || dram_.Writes()) return now;
    if (load_.writes_act() && LoadMeetsVector(now)) return now;
    std::int64_t cycles = until - now;
    if (store_.ReadsAt(now) > now)
      cycles = std::min(cycles, store_.ReadsAt(now) - now);
    else if (readers_.PortOf(store_.next(), now, &cycles) != Readers::Port::kTaken)
      return now;
    const Activity load = Activity::kDram, store = store_.active() ? Activity::kDram : idle_[kStore];
    const Activity store_does = store_.ReadsAt(now) <= now ? Activity::kPort : store;
    const std::int64_t first = now;
    std::int64_t read = 0;
    period_.Forget();
    for (until = now + cycles; now < until && !changed_; ++now) {
      const bool writes = load_.Writable();
      load_.Drain(0);
      const std::int64_t loaded = load_.Retired();
      if (loaded >= 0) Dispatch(now);  // a FINISH that waits for it
      const Dram::Moved moved = Move(now);
      read += moved.load_beat;
      const int port = load_.Wants(now) ? dram_.Freest() : -1;
      if (port >= 0) {
        RequestLoad(port, now);
        std::int64_t bursts = 0;
        if (!dram_.Answers()) now += period_.Leap(now, until - 1, &dram_, &load_, &bursts, &read);
        out_.dram_read_bytes += bursts * c_.dram_burst_bytes;
      }
      if (loaded >= 0) Retire(kLoad, loaded, now);
      if (const std::int64_t index = store_.Retired(); index >= 0) Retire(kStore, index, now);
      if (!writes && !moved.load_beat && port < 0) until = now + 1;  // the rest is a leap
    }
    Count(kLoad, Activity::kBusy, read);
    Count(kLoad, load, now - first - read);
    Count(kStore, store_does, now - first);
    return now;
  }

  // Cycles from `now` on in which LOAD, STORE and DRAM go on with what they do; 0 where they may not.
  std::int64_t Still(std::int64_t now) {
    if (FetchRequests() || (load_.Wants(now) && dram_.Freest() >= 0)) return 0;
    std::int64_t cycles = kNever;
    if (load_.forming() && load_.formed() > now) cycles = load_.formed() - now;
    store_held_ = store_.ReadsAt(now) <= now &&
                  readers_.PortOf(store_.next(), now, &cycles) == Readers::Port::kTaken;
    // What STORE and DRAM's writes do on their own is done cycle by cycle, but without the rest of the machine.
    store_runs_ = StoreMoves(now, store_held_);
    if (store_.reading()) cycles = std::min(cycles, store_.Rest() - 1);
    if (!store_runs_ && !store_held_) cycles = std::min(cycles, store_.ReadsAt(now) - now);
    if (cycles <= 0) return 0;
    ways_ = dram_.Look(now, store_runs_);
    if (ways_.fetches) return 0;
    cycles = std::min({cycles, ways_.cycles, load_.Closing()});
    if (ways_.reads == 1) cycles = std::min(cycles, beat_.Quotient(load_.room(ways_.port)));
    return cycles > 0 && !((ways_.reads > 0 || load_.Writable()) && LoadMeetsVector(now)) ? cycles : 0;
  }

  // Does those cycles, or the first of them; returns how many.
  std::int64_t Skip(std::int64_t cycles, std::int64_t now) {
    const Activity load = load_.active() ? Activity::kDram : idle_[kLoad];
    const Activity store = store_.active() ? Activity::kDram : idle_[kStore];
    const std::int64_t beat = c_.dram_read_bytes_per_cycle;
    std::int64_t read = 0, written = 0, held = 0;  // LOAD's beats; STORE's cycles of work, and without ACT's port
    if (store_runs_) {
      const bool free = readers_.PortOf(store_.reads(), now, &cycles) == Readers::Port::kFree;
      for (std::int64_t k = 0; k < cycles; ++k) {
        bool no_port = false, reads = false;
        if (store_.ReadsAt(now + k) <= now + k) {
          const BankMask taken = free ? 0 : readers_.Taken(store_.next(), now + k);
          reads = store_.Read(now + k, taken, &no_port);
        }
        load_.Drain(0);
        const Dram::Moved moved = Move(now + k);
        RequestWrite(now + k);
        read += moved.load_beat;
        written += reads || moved.write_beat;
        held += no_port && !moved.write_beat;
        if (const std::int64_t index = store_.Retired(); index >= 0) {
          Retire(kStore, index, now + k);
          cycles = k + 1;
        } else if (!StoreMoves(now + k + 1, no_port)) {
          cycles = k + 1;  // the rest is a leap
        }
      }
    } else if (!ways_.writes && ways_.reads == 0) {
      dram_.SkipIdle(cycles);
      for (std::int64_t k = 0; k < cycles && load_.Writable(); ++k) load_.Drain(0);
    } else if (!ways_.writes && ways_.reads == 1 && dram_.WholeBeats(ways_.port, cycles) &&
               load_.Steady(ways_.port, beat, cycles)) {
      dram_.SkipReads(ways_.port, cycles);
      load_.SkipSteady(beat, cycles);
      read = cycles;
    } else {
      for (std::int64_t k = 0; k < cycles; ++k) {
        load_.Drain(0);
        read += Move(now + k).load_beat;
      }
    }
    if (!store_runs_ && store_held_) held = cycles;
    Count(kLoad, Activity::kBusy, read);
    Count(kLoad, load, cycles - read);
    Count(kStore, Activity::kBusy, written);
    Count(kStore, Activity::kPort, held);
    Count(kStore, store, cycles - written - held);
    return cycles;
  }

  const TimingConfig& c_;
  const std::uint8_t* stream_;
  const std::int64_t count_;
  Timing& out_;
  const bool leaps_;
  Banks banks_;
  Readers readers_;
  LoadTimer load_;
  StoreTimer store_;
  Dram dram_;
  const Divisor beat_;              // bytes that DRAM reads in a cycle
  const std::int64_t fetch_burst_;  // instructions
  std::vector<std::int8_t> units_;  // of each instruction; -1 for FINISH
  Fifo<Queued> queues_[kUnits];
  Fifo<Retiring> retiring_[kUnits];
  isa::Vector next_vector_{};  // at the head of VECTOR's queue
  int tokens_[kUnits][kUnits] = {};
  std::int64_t running_[kUnits] = {};
  std::int64_t requested_ = 0, received_ = 0, dispatched_ = 0;  // of FETCH; received_ in bytes
  bool finished_ = false;
  bool changed_ = true;  // something that Start goes by
  std::int64_t table_at_ = kNever;
  Activity idle_[kUnits] = {};
  // What Still found.
  bool store_held_ = false, store_runs_ = false;
  Dram::Ways ways_;
  Period period_;  // of Stream
};

}  // namespace

bool RunTiming(const TimingConfig& config, const std::uint8_t* stream, std::size_t size, std::int64_t limit,
               bool leap, Timing* timing, Fault* fault) {
  *timing = Timing{};
  *fault = Fault{};
  if (const char* wrong = TimingConfigFault(config)) {
    *fault = {FaultKind::kArgument, -1, -1, wrong};
    return false;
  }
  if (!CheckStream(stream, size, fault)) return false;
  const std::int64_t count = static_cast<std::int64_t>(size / isa::kInstructionBytes);
  if (!CheckTimingTokens(stream, count, fault)) return false;
  timing->instructions.resize(static_cast<std::size_t>(count));
  if (TimingMachine(config, stream, size, leap, timing).Run(limit)) return true;
  *fault = {FaultKind::kArgument, -1, -1, "runs for more than " + std::to_string(limit) + " cycles"};
  return false;
}

}  // namespace tilewright
