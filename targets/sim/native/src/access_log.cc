#include "access_log.h"

#include <algorithm>

namespace tilewright {
namespace {

// These run over every row that an instruction touches; they are written so that compilers vectorise them.
bool AnyAbove(const std::int32_t* values, std::size_t count, std::int32_t limit) {
  std::int32_t any = 0;
  for (std::size_t i = 0; i < count; ++i) any |= values[i] > limit;
  return any != 0;
}

bool AnyEqual(const std::int32_t* values, std::size_t count, std::int32_t value) {
  std::int32_t any = 0;
  for (std::size_t i = 0; i < count; ++i) any |= values[i] == value;
  return any != 0;
}

bool AnyZero(const std::uint8_t* values, std::size_t count) {
  std::uint8_t any = 0;
  for (std::size_t i = 0; i < count; ++i) any |= values[i] == 0;
  return any != 0;
}

}  // namespace

void AccessLog::Reset(const Label& label, std::size_t rows, unsigned writers, unsigned readers) {
  label_ = label;
  initialised_.assign(rows, 0);
  for (int u = 0; u < kUnits; ++u) {
    wrote_[u].assign(writers >> u & 1 ? rows : 0, 0);
    read_[u].assign(readers >> u & 1 ? rows : 0, 0);
  }
}

bool AccessLog::Unordered(const std::array<std::vector<std::int32_t>, kUnits>& log, int unit,
                          const Clock& clock, std::size_t first, std::size_t count, bool wrote,
                          Conflict* conflict) const {
  for (int u = 0; u < kUnits; ++u) {
    if (u == unit || log[u].empty() || !AnyAbove(&log[u][first], count, clock[u])) continue;
    std::size_t row = first;
    while (log[u][row] <= clock[u]) ++row;
    *conflict = {Conflict::kRace, row, wrote, u, log[u][row]};
    return true;
  }
  return false;
}

bool AccessLog::Read(int unit, const Clock& clock, std::size_t first, std::size_t count, Conflict* conflict) {
  if (AnyZero(&initialised_[first], count)) {
    std::size_t row = first;
    while (initialised_[row]) ++row;
    *conflict = {Conflict::kUninitialised, row, false, 0, 0};
    return false;
  }
  if (Unordered(wrote_, unit, clock, first, count, true, conflict)) return false;
  std::fill_n(read_[unit].begin() + static_cast<std::ptrdiff_t>(first), count, clock[unit]);
  return true;
}

bool AccessLog::Write(int unit, const Clock& clock, std::size_t first, std::size_t count,
                      Conflict* conflict) {
  if (Unordered(wrote_, unit, clock, first, count, true, conflict)) return false;
  if (Unordered(read_, unit, clock, first, count, false, conflict)) return false;
  if (AnyEqual(&wrote_[unit][first], count, clock[unit])) {
    std::size_t row = first;
    while (wrote_[unit][row] != clock[unit]) ++row;
    *conflict = {Conflict::kOverlap, row, true, unit, clock[unit]};
    return false;
  }
  std::fill_n(wrote_[unit].begin() + static_cast<std::ptrdiff_t>(first), count, clock[unit]);
  std::fill_n(initialised_.begin() + static_cast<std::ptrdiff_t>(first), count, std::uint8_t{1});
  return true;
}

RunSet::RunSet(std::int64_t base, Offsets a, Offsets b, Offsets c)
    : base_(base), last_(base), lists_{std::move(a), std::move(b), std::move(c)} {
  for (Offsets& list : lists_) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    last_ += list.back();
  }
  // A list whose steps are all at most the length of a run only makes the run longer.
  for (bool merged = true; merged;) {
    merged = false;
    for (Offsets& list : lists_) {
      if (list.size() == 1) {
        base_ += list[0];
        list[0] = 0;
        continue;
      }
      bool dense = true;
      for (std::size_t i = 1; dense && i < list.size(); ++i) dense = list[i] - list[i - 1] <= length_;
      if (!dense) continue;
      base_ += list.front();
      length_ += list.back() - list.front();
      list.assign(1, 0);
      merged = true;
    }
  }
}

}  // namespace tilewright
