#include "tokens.h"

#include <algorithm>

#include "isa.h"

namespace tilewright {

void Tokens::Reset() {
  for (auto& row : pairs_)
    for (Pair& pair : row) {
      pair.clocks.resize(isa::kTokenMax);
      pair.first = pair.count = 0;
    }
  for (int u = 0; u < kUnits; ++u) {
    last_[u].fill(0);
    index_[u].clear();
  }
}

int Tokens::Begin(int unit, std::uint32_t wait, std::int64_t index, Clock* clock) {
  *clock = last_[unit];
  for (int from = 0; from < kUnits; ++from) {
    if (!(wait >> from & 1)) continue;
    Pair& pair = pairs_[from][unit];
    if (pair.count == 0) return from;
    const Clock& given = pair.clocks[pair.first];
    for (int u = 0; u < kUnits; ++u) (*clock)[u] = std::max((*clock)[u], given[u]);
    pair.first = (pair.first + 1) % pair.clocks.size();
    --pair.count;
  }
  index_[unit].push_back(index);
  (*clock)[unit] = static_cast<std::int32_t>(index_[unit].size());
  last_[unit] = *clock;
  return -1;
}

int Tokens::End(int unit, std::uint32_t give, const Clock& clock) {
  for (int to = 0; to < kUnits; ++to) {
    if (!(give >> to & 1)) continue;
    Pair& pair = pairs_[unit][to];
    if (pair.count == pair.clocks.size()) return to;
    pair.clocks[(pair.first + pair.count) % pair.clocks.size()] = clock;
    ++pair.count;
  }
  return -1;
}

}  // namespace tilewright
