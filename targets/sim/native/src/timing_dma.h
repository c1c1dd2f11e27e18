// LOAD, STORE and DRAM in time: bursts, bandwidth, latency, buffers.
#ifndef TILEWRIGHT_SRC_TIMING_DMA_H_
#define TILEWRIGHT_SRC_TIMING_DMA_H_

#include <algorithm>
#include <array>

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

// The memory controller: reads in the order requested, writes likewise, the ways sharing a budget of bytes.
class Dram {
 public:
  explicit Dram(const TimingConfig& c) : c_(c), credit_(0) {}

  bool CanRead() const { return reading_.size() < static_cast<std::size_t>(c_.dram_outstanding); }
  bool CanWrite() const {
    return writing_.size() + answers_.size() < static_cast<std::size_t>(c_.dram_outstanding);
  }
  void Read(Reader who, const Burst& burst, std::int64_t now) {
    reading_.push_back({who, burst.bytes, burst.beats, now + c_.dram_latency_cycles});
  }
  void Write(const Burst& burst, std::int64_t now) {
    writing_.push_back({Reader::kLoad, burst.bytes, burst.beats, now + 1});
  }

  // One cycle of data. `room` is what LOAD's buffer has; the results are bytes delivered to each reader,
  // bytes taken from STORE's buffer, whether LOAD got and STORE sent a beat, and bursts answered.
  struct Moved {
    std::int64_t read[2] = {0, 0};
    std::int64_t written = 0;
    bool load_beat = false, write_beat = false;
    int answered = 0;
  };
  Moved Step(std::int64_t now, std::int64_t room);

  // Cycles in which neither a burst ends nor an answer comes nor a way starts, if nothing is requested;
  // `reads` and `writes` say which way moves. With `any_writes`, that of writes does not count.
  std::int64_t Look(std::int64_t now, bool any_writes, bool* reads, bool* writes) const;
  Reader reader() const { return reading_.front().who; }
  bool Writes() const { return !writing_.empty(); }
  // At most what Look said: without a beat, and with a whole beat read in each cycle and none written.
  void SkipIdle(std::int64_t cycles);
  void SkipReads(std::int64_t cycles);
  bool WholeBeats(std::int64_t cycles) const {
    return reading_.front().bytes >= cycles * c_.dram_read_bytes_per_cycle;
  }

 private:
  struct Transfer {
    Reader who;
    std::int64_t bytes, beats, ready;
  };
  const TimingConfig& c_;
  Fifo<Transfer> reading_, writing_;
  Fifo<std::int64_t> answers_;  // times
  std::int64_t credit_;
  bool write_next_ = false;  // whose turn it is where the budget serves one way only
};

class LoadTimer {
 public:
  LoadTimer(const TimingConfig& config, const Banks& banks)
      : c_(config), banks_(banks), former_(config.dram_read_bytes_per_cycle, config.dram_burst_bytes) {}

  bool Accepts() const {
    return !forming_ && flight_.size() < static_cast<std::size_t>(c_.load_instructions);
  }
  bool active() const { return forming_ || !flight_.empty(); }
  bool writes_act() const { return act_ > 0; }
  BankMask writes() const;
  bool writes_next() const { return act_ > 0 && flight_.front().act; }  // whether ACT's port is asked for
  std::int64_t room() const { return c_.load_buffer_bytes - buffered_; }
  void Start(const isa::Load& i, std::int64_t index, std::int64_t now);

  // Whether a burst is requested in this cycle, if DRAM takes one.
  bool Wants(std::int64_t now) const { return forming_ && now >= formed_; }
  Burst Request(std::int64_t now);
  // A cycle of the scratchpad side; `taken` are banks that VECTOR writes. Returns whether it was held up by
  // them.
  bool Drain(BankMask taken);
  void Receive(std::int64_t bytes) { buffered_ += bytes; }
  // The instruction whose last element Drain wrote, or -1; asked for once a cycle.
  std::int64_t Retired();

  std::int64_t formed() const { return formed_; }
  bool forming() const { return forming_; }
  bool Writable() const;  // whether the buffer holds something to write
  // Cycles before the one in which the oldest instruction may retire, as far as the buffer says.
  std::int64_t Closing() const {
    if (flight_.empty() || flight_.front().bytes > buffered_) return kNever;
    return flight_.front().act ? flight_.front().bytes / flight_.front().copy.element - 1 : 0;
  }
  // Whether each cycle with a beat of `bytes` drains as much as it brings, so that the buffer stays as full.
  bool Steady(std::int64_t bytes) const {
    return !flight_.empty() && (flight_.front().act
                                    ? flight_.front().copy.element == bytes && buffered_ >= bytes
                                    : buffered_ == bytes);
  }
  void SkipSteady(std::int64_t bytes, std::int64_t cycles) {
    flight_.front().bytes -= cycles * bytes;
    flight_.front().written += cycles;
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
  Fifo<Flight> flight_;
  BurstFormer former_;
  Burst burst_;
  bool forming_ = false;
  std::int64_t formed_ = 0, buffered_ = 0;
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

inline Dram::Moved Dram::Step(std::int64_t now, std::int64_t room) {
  Moved moved;
  const std::int64_t r = c_.dram_read_bytes_per_cycle, w = c_.dram_write_bytes_per_cycle;
  credit_ = std::min(credit_ + c_.dram_bytes_per_cycle, r + w);
  bool read = !reading_.empty() && reading_.front().ready <= now &&
              (reading_.front().who == Reader::kFetch || room >= r);
  bool write = !writing_.empty() && writing_.front().ready <= now;
  if (read && write && credit_ < r + w) {
    (write_next_ ? read : write) = false;
    write_next_ = !write_next_;
  }
  if (read) {
    Transfer& t = reading_.front();
    const std::int64_t bytes = t.beats == 1 ? t.bytes : std::min(t.bytes, r);
    moved.read[static_cast<int>(t.who)] = bytes;
    moved.load_beat = t.who == Reader::kLoad;
    credit_ -= r;
    t.bytes -= bytes;
    if (--t.beats == 0) reading_.pop_front();
  }
  if (write) {
    Transfer& t = writing_.front();
    const std::int64_t bytes = t.beats == 1 ? t.bytes : std::min(t.bytes, w);
    moved.written = bytes;
    moved.write_beat = true;
    credit_ -= w;
    t.bytes -= bytes;
    if (--t.beats == 0) {
      writing_.pop_front();
      answers_.push_back(now + c_.dram_latency_cycles);
    }
  }
  while (!answers_.empty() && answers_.front() <= now) {
    answers_.pop_front();
    ++moved.answered;
  }
  return moved;
}

inline std::int64_t Dram::Look(std::int64_t now, bool any_writes, bool* reads, bool* writes) const {
  *reads = *writes = false;
  std::int64_t cycles = kNever;
  if (!answers_.empty() && !any_writes) cycles = answers_.front() - now;
  for (bool way : {false, true}) {
    const auto& queue = way ? writing_ : reading_;
    if (queue.empty()) continue;
    if (way && any_writes) {
      *writes = true;
    } else if (queue.front().ready > now) {
      cycles = std::min(cycles, queue.front().ready - now);
    } else {
      (way ? *writes : *reads) = true;
      cycles = std::min(cycles, queue.front().beats - 1);
    }
  }
  return cycles;
}

inline bool LoadTimer::Writable() const {
  return !flight_.empty() &&
         (flight_.front().act ? buffered_ >= flight_.front().copy.element : buffered_ > 0);
}

inline bool LoadTimer::Drain(BankMask taken) {
  if (!Writable()) return false;
  Flight& f = flight_.front();
  if (f.act) {
    if (taken != 0 && banks_.One(f.copy.AddressOf(f.written)) & taken) return true;
    ++f.written;
    f.bytes -= f.copy.element;
    buffered_ -= f.copy.element;
  } else {
    const std::int64_t bytes = std::min(f.bytes, buffered_);
    f.bytes -= bytes;
    buffered_ -= bytes;
  }
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
