#include "timing_dma.h"

#include <algorithm>

namespace tilewright {

void BurstFormer::Start(const Copy& copy) {
  copy_ = copy;
  const bool together = copy.n[2] == 1 || copy.dram[2] == copy.element;
  run_bytes_ = together ? copy.n[2] * copy.element : copy.element;
  runs_ = {copy.n[0], copy.n[1], together ? 1 : copy.n[2]};
  run_ = {0, 0, 0};
  done_ = 0;
  left_ = copy.elements() * copy.element;
}

std::int64_t BurstFormer::RunAddress() const {
  return copy_.offset + run_[0] * copy_.dram[0] + run_[1] * copy_.dram[1] + run_[2] * copy_.dram[2];
}

std::int64_t BurstFormer::Whole() const {
  if (left_ == 0 || most_.Rest(RunAddress() + done_) != 0) return 0;
  return (run_bytes_ - done_ - 1) / most_bytes_;
}

Burst BurstFormer::Next() {
  Burst burst;
  const std::int64_t first = RunAddress() + done_;
  std::int64_t at = first, room = most_bytes_ - most_.Rest(first);
  do {
    const std::int64_t piece = std::min(run_bytes_ - done_, room);
    at += piece;
    room -= piece;
    done_ += piece;
    left_ -= piece;
    ++burst.pieces;
    if (done_ < run_bytes_) break;  // at the end of a burst
    done_ = 0;
    for (std::size_t k = 3; k-- > 0;) {
      if (++run_[k] < runs_[k]) break;
      run_[k] = 0;
    }
  } while (left_ > 0 && room != 0 && RunAddress() == at);
  burst.bytes = at - first;
  burst.beats = beat_.Quotient(at - 1) - beat_.Quotient(first) + 1;
  return burst;
}

void Dram::SkipIdle(std::int64_t cycles) {
  const std::int64_t steps = std::min(cycles, Full());  // the credit is full after that
  credit_ = std::min(credit_ + steps * c_.dram_bytes_per_cycle, Full());
}

// A beat more a cycle than the budget grows by is never taken: ConfigFault asks for dram_bytes_per_cycle to hold one.
void Dram::SkipReads(int port, std::int64_t cycles) {
  const std::int64_t beat = c_.dram_read_bytes_per_cycle;
  const std::int64_t gain = c_.dram_bytes_per_cycle - beat;
  credit_ = std::min(credit_ + gain * std::min(cycles, Full()), Full() - beat);
  reading_[port].beats -= cycles;
  reading_[port].queue.front().bytes -= cycles * beat;
  reading_[port].queue.front().beats -= cycles;
}

void Dram::Note(std::int64_t now, std::vector<std::int64_t>* state) const {
  state->insert(state->end(), {credit_, turn_});
  for (int port = 0; port < ports_; ++port) {
    const Fifo<Transfer>& queue = reading_[port].queue;
    state->push_back(static_cast<std::int64_t>(queue.size()));
    for (std::size_t k = 0; k < queue.size(); ++k)
      state->insert(state->end(),
                    {queue[k].bytes, queue[k].beats, std::max<std::int64_t>(queue[k].ready - now, 0)});
  }
}

void Dram::Delay(std::int64_t cycles) {
  for (int port = 0; port < ports_; ++port)
    for (std::size_t k = 0; k < reading_[port].queue.size(); ++k) reading_[port].queue[k].ready += cycles;
}

void LoadTimer::Note(std::int64_t now, std::vector<std::int64_t>* state) const {
  state->insert(state->end(), buffered_.begin(), buffered_.end());
  state->insert(state->end(), {burst_.beats, std::max<std::int64_t>(formed_ - now, 0)});
  for (std::size_t k = 0; k < requested_.size(); ++k)
    state->insert(state->end(), {requested_[k].port, requested_[k].bytes});
}

void LoadTimer::Leap(std::int64_t bursts, std::int64_t cycles) {
  const std::int64_t bytes = bursts * former_.most();
  former_.Skip(bursts);
  formed_ += cycles;
  flight_.front().bytes -= bytes;
  flight_.front().written += bytes / flight_.front().copy.element;
}

BankMask LoadTimer::writes() const {
  BankMask mask = 0;
  for (std::size_t k = 0; k < flight_.size(); ++k) mask |= flight_[k].reach;
  return mask;
}

void LoadTimer::Start(const isa::Load& i, std::int64_t index, std::int64_t now) {
  const std::int64_t sizes[] = {std::int64_t{c_.block_in} * c_.inp_bits / 8, 0, isa::kRecordBytes,
                                c_.block_in};
  const auto memory = static_cast<isa::Memory>(i.memory);
  const bool act = memory == isa::Memory::kAct;
  const std::int64_t element = memory == isa::Memory::kWgt
                                   ? std::int64_t{c_.block_in} * c_.block_out * c_.wgt_bits / 8
                                   : sizes[i.memory];
  const Copy copy = Copy::Of(i, element);
  former_.Start(copy);
  burst_ = former_.Next();
  forming_ = true;
  formed_ = now + c_.start_cycles + burst_.pieces - 1;
  flight_.push_back(
      {index, copy.elements() * element, act, copy, 0, act ? banks_.Pairs(copy.address, copy.last()) : 0});
  act_ += act;
}

Burst LoadTimer::Request(int port, std::int64_t now) {
  const Burst burst = burst_;
  requested_.push_back({port, burst.bytes});
  if (former_.done()) {
    forming_ = false;
  } else {
    burst_ = former_.Next();
    formed_ = now + burst_.pieces;
  }
  return burst;
}

void StoreTimer::Start(const isa::Store& i, std::int64_t index, std::int64_t now) {
  copy_ = Copy::Of(i, std::int64_t{c_.block_in} * c_.inp_bits / 8);
  former_.Start(copy_);
  walk_.Start(copy_);
  rest_ = copy_.elements();
  burst_ = former_.Next();
  reach_ = banks_.Pairs(copy_.address, copy_.last());
  reading_ = true;
  ready_ = now + c_.start_cycles;
  taken_ = 0;
  flight_.push_back({index, 0, false});
}

}  // namespace tilewright
