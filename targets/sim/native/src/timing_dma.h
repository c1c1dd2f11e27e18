// LOAD, STORE and DRAM in time: bursts, bandwidth, latency, buffers.
#ifndef TILEWRIGHT_SRC_TIMING_DMA_H_
#define TILEWRIGHT_SRC_TIMING_DMA_H_

#include <algorithm>
#include <array>
#include <vector>

#include "fifo.h"
#include "isa.h"
#include "timing_banks.h"

namespace tilewright {

// A strided copy, as LOAD and STORE have it.
struct Copy {
  template <typename I>
  static Copy Of(const I& i, std::int64_t element) {
    return {i.dram_offset,      {i.dram_stride0, i.dram_stride1, i.dram_stride2},
            i.address,          {i.stride0, i.stride1, i.stride2},
            {i.n0, i.n1, i.n2}, element};
  }
  std::int64_t offset;
  std::int64_t dram[3];
  std::int64_t address;
  std::int64_t pad[3];
  std::int64_t n[3];
  std::int64_t element;  // bytes

  std::int64_t elements() const { return n[0] * n[1] * n[2]; }
  std::int64_t last() const {
    return address + (n[0] - 1) * pad[0] + (n[1] - 1) * pad[1] + (n[2] - 1) * pad[2];
  }
  std::int64_t AddressOf(std::int64_t k) const {
    return address + k / (n[1] * n[2]) * pad[0] + k / n[2] % n[1] * pad[1] + k % n[2] * pad[2];
  }
};

// The scratchpad rows of a copy one after the other; AddressOf without its divisions.
class Walk {
 public:
  void Start(const Copy& copy) {
    *this = Walk();
    row_ = copy.address;
  }
  std::int64_t row() const { return row_; }
  void Next(const Copy& copy) {
    row_ += copy.pad[2];
    if (++k_[2] < copy.n[2]) return;
    k_[2] = 0;
    if (++k_[1] == copy.n[1]) {
      k_[1] = 0;
      ++k_[0];
    }
    row_ = copy.address + k_[0] * copy.pad[0] + k_[1] * copy.pad[1];
  }

 private:
  std::int64_t k_[3] = {}, row_ = 0;
};

// Divides by what is a power of two on every board that is known, though it need not be.
class Divisor {
 public:
  explicit Divisor(std::int64_t value) : value_(value) {
    while (std::int64_t{1} << (shift_ + 1) <= value) ++shift_;
    if (std::int64_t{1} << shift_ != value) shift_ = -1;
  }
  std::int64_t Quotient(std::int64_t x) const { return shift_ < 0 ? x / value_ : x >> shift_; }
  std::int64_t Rest(std::int64_t x) const { return shift_ < 0 ? x % value_ : x & (value_ - 1); }

 private:
  std::int64_t value_;
  int shift_ = 0;
};

struct Burst {
  std::int64_t bytes = 0, beats = 0;
  std::int64_t pieces = 0;  // cycles that the former takes for it
};

// Cuts a copy into bursts: neighbours in DRAM are joined, and a burst ends at a multiple of its largest size.
class BurstFormer {
 public:
  BurstFormer(std::int64_t beat, std::int64_t most) : beat_(beat), most_(most), most_bytes_(most) {}
  void Start(const Copy& copy);
  bool done() const { return left_ == 0; }
  Burst Next();
  // Bursts to come of the largest size and a piece each, not the last of their run; at most those are
  // skipped.
  std::int64_t Whole() const;
  void Skip(std::int64_t bursts) {
    done_ += bursts * most_bytes_;
    left_ -= bursts * most_bytes_;
  }
  std::int64_t most() const { return most_bytes_; }

 private:
  std::int64_t RunAddress() const;
  Copy copy_{};
  Divisor beat_, most_;
  std::int64_t most_bytes_;
  std::int64_t run_bytes_ = 0;
  std::array<std::int64_t, 3> runs_{}, run_{};  // counts, and the current run
  std::int64_t done_ = 0;                       // of its bytes
  std::int64_t left_ = 0;
};

enum class Reader : int { kFetch = 0, kLoad = 1 };


class LoadTimer;

// The memory controller: each port's reads in the order requested, writes likewise, all sharing a budget of bytes.
class Dram {
 public:
  explicit Dram(const TimingConfig& c) : c_(c), ports_(c.dram_read_ports), credit_(0) {}

  bool CanRead(int port) const {
    return reading_[port].queue.size() < static_cast<std::size_t>(c_.dram_outstanding);
  }
  // The read port with the fewest beats to come, of those that take a burst; -1 where none does.
  int Freest() const {
    int found = -1;
    for (int port = 0; port < ports_; ++port)
      if (CanRead(port) && (found < 0 || reading_[port].beats < reading_[found].beats)) found = port;
    return found;
  }
  bool CanWrite() const {
    return writing_.size() + answers_.size() < static_cast<std::size_t>(c_.dram_outstanding);
  }
  void Read(Reader who, int port, const Burst& burst, std::int64_t now) {
    reading_[port].beats += burst.beats;
    fetches_ += who == Reader::kFetch;
    reading_[port].queue.push_back({who, burst.bytes, burst.beats, now + c_.dram_latency_cycles});
  }
  void Write(const Burst& burst, std::int64_t now) {
    writing_.push_back({Reader::kLoad, burst.bytes, burst.beats, now + 1});
  }

  // One cycle of data, that of LOAD straight into its buffers. The results are bytes that FETCH gets, bytes
  // taken from STORE's buffer, whether LOAD got and STORE sent a beat, and bursts answered.
  struct Moved {
    std::int64_t fetched = 0, written = 0;
    bool load_beat = false, write_beat = false;
    int answered = 0;
  };
  Moved Step(std::int64_t now, LoadTimer* load);

  // What moves for `cycles`, in which neither a burst ends nor an answer comes nor a way starts, if nothing is
  // requested. With `any_writes`, that of writes does not count.
  struct Ways {
    std::int64_t cycles = kNever;
    int reads = 0;           // ports with a burst that comes
    int port = -1;           // the last of them
    bool fetches = false;    // one is FETCH's
    bool writes = false;
  };
  Ways Look(std::int64_t now, bool any_writes) const;
  bool Writes() const { return !writing_.empty(); }
  bool Fetches() const { return fetches_ != 0; }
  bool Answers() const { return !answers_.empty(); }
  // All that reads depend on, as it is in cycle `now`; and the same so many cycles later.
  void Note(std::int64_t now, std::vector<std::int64_t>* state) const;
  void Delay(std::int64_t cycles);
  std::int64_t credit() const { return credit_; }
  // At most what Look said: without a beat, and with a whole beat of `port` alone in each cycle.
  void SkipIdle(std::int64_t cycles);
  void SkipReads(int port, std::int64_t cycles);
  bool WholeBeats(int port, std::int64_t cycles) const {
    return reading_[port].queue.front().bytes >= cycles * c_.dram_read_bytes_per_cycle;
  }

 private:
  struct Transfer {
    Reader who;
    std::int64_t bytes, beats, ready;
  };
  struct Port {
    Fifo<Transfer> queue;
    std::int64_t beats = 0;  // to come
  };
  bool Due(const Fifo<Transfer>& queue, std::int64_t now) const {
    return !queue.empty() && queue.front().ready <= now;
  }
  std::int64_t Full() const {
    return std::int64_t{ports_} * c_.dram_read_bytes_per_cycle + c_.dram_write_bytes_per_cycle;
  }
  const TimingConfig& c_;
  const int ports_;
  Port reading_[kReadPorts];
  Fifo<Transfer> writing_;
  Fifo<std::int64_t> answers_;  // times
  std::int64_t credit_;
  int fetches_ = 0;  // bursts on their way to FETCH
  int turn_ = 0;  // the way that comes first, the last one of which the budget did not serve
};

class LoadTimer {
 public:
  LoadTimer(const TimingConfig& config, const Banks& banks)
      : c_(config),
        banks_(banks),
        most_(std::int64_t{config.dram_read_ports} * config.dram_read_bytes_per_cycle),
        former_(config.dram_read_bytes_per_cycle, config.dram_burst_bytes) {}

  bool Accepts() const {
    return !forming_ && flight_.size() < static_cast<std::size_t>(c_.load_instructions);
  }
  bool active() const { return forming_ || !flight_.empty(); }
  bool writes_act() const { return act_ > 0; }
  BankMask writes() const;
  bool writes_next() const { return act_ > 0 && flight_.front().act; }  // whether ACT's port is asked for
  std::int64_t room(int port) const { return c_.load_buffer_bytes - buffered_[port]; }  // in its buffer
  void Start(const isa::Load& i, std::int64_t index, std::int64_t now);

  // Whether a burst is requested in this cycle, if DRAM takes one.
  bool Wants(std::int64_t now) const { return forming_ && now >= formed_; }
  Burst Request(int port, std::int64_t now);
  // A cycle of the scratchpad side; `taken` are banks that VECTOR writes. Returns whether it was held up by
  // them.
  bool Drain(BankMask taken);
  void Receive(int port, std::int64_t bytes) { buffered_[port] += bytes; }
  // The instruction whose last element Drain wrote, or -1; asked for once a cycle.
  std::int64_t Retired();

  std::int64_t formed() const { return formed_; }
  bool forming() const { return forming_; }
  bool Writable() const;  // whether the buffer holds something to write
  // Cycles before the one in which the oldest instruction may retire, as far as the buffer says.
  std::int64_t Closing() const {
    std::int64_t buffered = 0;
    for (int port = 0; port < c_.dram_read_ports; ++port) buffered += buffered_[port];
    if (flight_.empty() || flight_.front().bytes > buffered) return kNever;
    const std::int64_t most = flight_.front().act ? flight_.front().copy.element : most_;
    return (flight_.front().bytes + most - 1) / most - 1;
  }
  // Whether each of `cycles` with a beat of `bytes` on `port` drains as much as it brings: the buffer stays as full.
  bool Steady(int port, std::int64_t bytes, std::int64_t cycles) const {
    if (requested_.empty() || requested_.front().port != port) return false;
    if (requested_.front().bytes <= cycles * bytes) return false;
    return flight_.front().act ? flight_.front().copy.element == bytes && buffered_[port] >= bytes
                               : buffered_[port] == bytes;
  }
  // Bursts to come that are like the one that is ready, where one LOAD alone is on its way; see Period.
  std::int64_t Uniform() const {
    const bool alike = burst_.bytes == former_.most() && burst_.pieces == 1;
    return forming_ && flight_.size() == 1 && alike ? former_.Whole() : 0;
  }
  // How often so many bursts may be written before the LOAD ends.
  std::int64_t Rest(std::int64_t bursts) const {
    return (flight_.front().bytes - 1) / (bursts * former_.most());
  }
  void Note(std::int64_t now, std::vector<std::int64_t>* state) const;
  void Leap(std::int64_t bursts, std::int64_t cycles);
  void SkipSteady(std::int64_t bytes, std::int64_t cycles) {
    flight_.front().bytes -= cycles * bytes;
    flight_.front().written += cycles;
    requested_.front().bytes -= cycles * bytes;
  }

 private:
  struct Flight {
    std::int64_t index, bytes;  // bytes not yet written
    bool act;
    Copy copy;
    std::int64_t written;  // elements
    BankMask reach;
  };
  const TimingConfig& c_;
  const Banks& banks_;
  struct Requested {
    int port;
    std::int64_t bytes;  // not yet written
  };
  const std::int64_t most_;  // bytes that memories other than ACT take in a cycle
  Fifo<Flight> flight_;
  Fifo<Requested> requested_;  // bursts in the order in which they are written
  BurstFormer former_;
  Burst burst_;
  bool forming_ = false;
  std::int64_t formed_ = 0;
  std::array<std::int64_t, kReadPorts> buffered_{};  // behind each port
  int act_ = 0;
  std::int64_t retired_ = -1;
};

class StoreTimer {
 public:
  StoreTimer(const TimingConfig& config, const Banks& banks)
      : c_(config), banks_(banks), former_(config.dram_write_bytes_per_cycle, config.dram_burst_bytes) {}

  bool Accepts() const {
    return !reading_ && flight_.size() < static_cast<std::size_t>(c_.store_instructions);
  }
  bool active() const { return reading_ || !flight_.empty(); }
  BankMask reads() const { return reading_ ? reach_ : 0; }
  void Start(const isa::Store& i, std::int64_t index, std::int64_t now);

  // A cycle of the ACT side. Returns whether a half word was read; `held` where its bank was taken.
  bool Read(std::int64_t now, BankMask taken, bool* held);
  bool Wants() const { return !whole_.empty(); }
  Burst Request();
  void Sent(std::int64_t bytes) { buffered_ -= bytes; }
  void Answered();
  std::int64_t Retired();
  // When Read may next do something, kNever where only DRAM can change that.
  std::int64_t ReadsAt(std::int64_t now) const {
    if (!reading_ || buffered_ + copy_.element > c_.store_buffer_bytes) return kNever;
    return std::max(ready_, now);
  }
  BankMask next() const { return banks_.One(walk_.row()); }  // where Read reads
  bool reading() const { return reading_; }
  // Half words yet to be read.
  std::int64_t Rest() const { return rest_; }
  // Half words up to the end of the burst or of the buffer.
  std::int64_t Left() const {
    return std::min(burst_.bytes - taken_, c_.store_buffer_bytes - buffered_) / copy_.element;
  }

 private:
  struct Flight {
    std::int64_t index, bursts;  // not yet answered
    bool read;                   // wholly
  };
  const TimingConfig& c_;
  const Banks& banks_;
  bool reading_ = false;
  Copy copy_{};
  Walk walk_;
  BankMask reach_ = 0;
  BurstFormer former_;
  Burst burst_;
  std::int64_t ready_ = 0, rest_ = 0, taken_ = 0, buffered_ = 0;
  Fifo<Burst> whole_;  // wholly in the buffer, not yet requested
  Fifo<Flight> flight_;
  std::int64_t retired_ = -1;
};

// Asked for in every cycle that is not leapt over.

inline Dram::Moved Dram::Step(std::int64_t now, LoadTimer* load) {
  Moved moved;
  const std::int64_t r = c_.dram_read_bytes_per_cycle, w = c_.dram_write_bytes_per_cycle;
  credit_ = std::min(credit_ + c_.dram_bytes_per_cycle, Full());
  for (int k = 0, way = turn_; k <= ports_; ++k, way = way == ports_ ? 0 : way + 1) {
    const bool writes = way == ports_;
    Fifo<Transfer>& queue = writes ? writing_ : reading_[way].queue;
    if (!Due(queue, now)) continue;
    Transfer& t = queue.front();
    const bool loads = !writes && t.who == Reader::kLoad;
    if (loads && load->room(way) < r) continue;
    const std::int64_t beat = writes ? w : r;
    if (credit_ < beat) {
      turn_ = way;
      break;
    }
    credit_ -= beat;
    const std::int64_t bytes = t.beats == 1 ? t.bytes : std::min(t.bytes, beat);
    if (loads)
      load->Receive(way, bytes);
    else
      (writes ? moved.written : moved.fetched) = bytes;
    moved.load_beat |= loads;
    moved.write_beat |= writes;
    if (!writes) --reading_[way].beats;
    t.bytes -= bytes;
    if (--t.beats > 0) continue;
    fetches_ -= !writes && !loads;
    queue.pop_front();
    if (writes) answers_.push_back(now + c_.dram_latency_cycles);
  }
  while (!answers_.empty() && answers_.front() <= now) {
    answers_.pop_front();
    ++moved.answered;
  }
  return moved;
}

inline Dram::Ways Dram::Look(std::int64_t now, bool any_writes) const {
  Ways ways;
  if (!answers_.empty() && !any_writes) ways.cycles = answers_.front() - now;
  for (int port = 0; port < ports_; ++port) {
    const auto& queue = reading_[port].queue;
    if (queue.empty()) continue;
    if (queue.front().ready > now) {
      ways.cycles = std::min(ways.cycles, queue.front().ready - now);
    } else {
      ++ways.reads;
      ways.port = port;
      ways.fetches |= queue.front().who == Reader::kFetch;
      ways.cycles = std::min(ways.cycles, queue.front().beats - 1);
    }
  }
  if (writing_.empty()) return ways;
  if (any_writes) {
    ways.writes = true;
  } else if (writing_.front().ready > now) {
    ways.cycles = std::min(ways.cycles, writing_.front().ready - now);
  } else {
    ways.writes = true;
    ways.cycles = std::min(ways.cycles, writing_.front().beats - 1);
  }
  return ways;
}

inline bool LoadTimer::Writable() const {
  if (requested_.empty()) return false;
  const std::int64_t buffered = buffered_[requested_.front().port];
  return flight_.front().act ? buffered >= flight_.front().copy.element : buffered > 0;
}

inline bool LoadTimer::Drain(BankMask taken) {
  if (!Writable()) return false;
  Flight& f = flight_.front();
  Requested& burst = requested_.front();
  std::int64_t bytes = f.copy.element;
  if (f.act) {
    if (taken != 0 && banks_.One(f.copy.AddressOf(f.written)) & taken) return true;
    ++f.written;
  } else {
    bytes = std::min({burst.bytes, buffered_[burst.port], most_});
  }
  f.bytes -= bytes;
  buffered_[burst.port] -= bytes;
  burst.bytes -= bytes;
  if (burst.bytes == 0) requested_.pop_front();
  if (f.bytes == 0) {
    retired_ = f.index;
    act_ -= f.act;
    flight_.pop_front();
  }
  return false;
}

inline std::int64_t LoadTimer::Retired() {
  const std::int64_t index = retired_;
  retired_ = -1;
  return index;
}

inline bool StoreTimer::Read(std::int64_t now, BankMask taken, bool* held) {
  *held = false;
  if (ReadsAt(now) > now) return false;
  if (taken != 0 && banks_.One(walk_.row()) & taken) {
    *held = true;
    return false;
  }
  walk_.Next(copy_);
  --rest_;
  buffered_ += copy_.element;
  taken_ += copy_.element;
  while (reading_ && taken_ >= burst_.bytes) {
    taken_ -= burst_.bytes;
    whole_.push_back(burst_);
    ++flight_.back().bursts;
    if (former_.done()) {
      reading_ = false;
      flight_.back().read = true;
    } else {
      burst_ = former_.Next();
    }
  }
  return true;
}

inline Burst StoreTimer::Request() {
  const Burst burst = whole_.front();
  whole_.pop_front();
  return burst;
}

inline void StoreTimer::Answered() {
  Flight& f = flight_.front();
  if (--f.bursts == 0 && f.read) {
    retired_ = f.index;
    flight_.pop_front();
  }
}

inline std::int64_t StoreTimer::Retired() {
  const std::int64_t index = retired_;
  retired_ = -1;
  return index;
}

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_DMA_H_
