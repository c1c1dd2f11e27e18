#include "timing_matrix.h"

namespace tilewright {
namespace {

enum { kOc, kIc, kKy, kKx, kY, kX };
constexpr BankMask kFirstBanks = 0x5555555555555555;

}  // namespace

void MatrixTimer::Start(const isa::Matrix& i, std::int64_t now) {
  i_ = i;
  active_ = true;
  const std::uint32_t n[] = {i.n_oc, i.n_ic, i.n_ky, i.n_kx, i.n_y, i.n_x};
  const std::uint32_t order[] = {i.order_0, i.order_1, i.order_2, i.order_3, i.order_4, i.order_5};
  for (int k = 0; k < 6; ++k) {
    n_[k] = n[k];
    count_[k] = 0;
    order_[k] = static_cast<int>(order[k]);
  }
  for (outer_ = 6, run_ = 1; outer_ > 0; --outer_) {
    const int counter = order_[outer_ - 1];
    if (counter != kY && counter != kX && n_[counter] != 1) break;
    run_ *= n_[counter];
  }
  position_ = 0;
  rest_ = 1;
  for (int k = 0; k < 6; ++k) rest_ *= n_[k];
  smooth_ = Smooth();
  held_ = -1;
  tile_ready_ = now + c_.start_cycles + c_.tile_cycles;
  Place();
  const std::int64_t first = std::max(i.offset_y, 0);
  const std::int64_t bottom = std::min<std::int64_t>(
      std::int64_t{i.height} - 1,
      std::int64_t{i.n_y - 1} * i.stride_y + std::int64_t{i.n_ky - 1} * i.dilation_y + i.offset_y);
  const std::int64_t block = std::int64_t{i.ic_first} + std::int64_t{i.n_oc - 1} * i.ic_stride_o + i.n_ic - 1;
  std::int64_t lo = i.ring ? 0 : first * i.act_row;
  std::int64_t hi = (i.ring ? i.ring - 1 : std::max<std::int64_t>(bottom, 0)) * i.act_row;
  if (i.displaced) {
    const std::int64_t row = i.ring ? 0 : i.act_row, column = i.act_x;
    lo += c_.displacement_min * (row + column);
    hi += c_.displacement_max * (row + column);
  }
  hi += std::int64_t{i.width - 1} * i.act_x + block * i.act_ic;
  reach_ = banks_.Pairs(i.act_base + lo, i.act_base + hi);
}

// Tile and vector of the next step.
void MatrixTimer::Place() {
  tile_ = i_.wgt_base + std::int64_t{count_[kOc]} * i_.wgt_oc + std::int64_t{count_[kIc]} * i_.wgt_ic +
          std::int64_t{count_[kKy]} * i_.wgt_ky + std::int64_t{count_[kKx]} * i_.wgt_kx;
  acc_ = Acc(count_);
}
std::int64_t MatrixTimer::Acc(const Counters& count) const {
  return i_.acc_base + std::int64_t{count[kOc]} * i_.acc_oc + std::int64_t{count[kY]} * i_.acc_y +
         std::int64_t{count[kX]} * i_.acc_x;
}

// When the next step may be made, as far as the steps before it say.
std::int64_t MatrixTimer::Earliest(Activity* why) const {
  std::int64_t time = 0;
  *why = Activity::kBusy;
  if (tile_ != held_) {
    time = tile_ready_;
    *why = held_ < 0 ? Activity::kStart : Activity::kTile;
  }
  const bool fresh = i_.fresh && count_[kIc] == 0 && count_[kKy] == 0 && count_[kKx] == 0;
  if (fresh || acc_ == issued_[0].address) return time;
  for (int k = 1; k < 3; ++k)
    if (issued_[k].address == acc_ && issued_[k].time + c_.acc_cycles > time) {
      time = issued_[k].time + c_.acc_cycles;
      *why = Activity::kAcc;
    }
  return time;
}

void MatrixTimer::Advance() {
  if (++position_ == run_) position_ = 0;
  --rest_;
  for (int k = 5; k >= 0; --k) {
    const int counter = order_[k];
    if (++count_[counter] < n_[counter]) break;
    count_[counter] = 0;
    if (k == 0) active_ = false;
  }
  Place();
}

// Makes the next step.
void MatrixTimer::Note(std::int64_t now) {
  issued_[2] = issued_[1];
  issued_[1] = issued_[0];
  issued_[0] = {now, acc_};
  if (tile_ != held_) {
    held_ = tile_;
    tile_ready_ = now + c_.tile_cycles;
  }
  read_ = count_;
  Advance();
}

Activity MatrixTimer::Step(std::int64_t now, bool* stepped, bool* last) {
  *stepped = *last = false;
  step_banks_wanted_ = false;
  Activity why;
  if (now < Earliest(&why)) return why;
  Note(now);
  *stepped = step_banks_wanted_ = true;
  *last = !active_;
  return Activity::kBusy;
}

BankMask MatrixTimer::Reads(const Counters& count) const {
  const std::int64_t block =
      std::int64_t{i_.ic_first} + std::int64_t{count[kOc]} * i_.ic_stride_o + count[kIc];
  const std::int64_t py =
      std::int64_t{count[kY]} * i_.stride_y + std::int64_t{count[kKy]} * i_.dilation_y + i_.offset_y;
  const std::int64_t px =
      std::int64_t{count[kX]} * i_.stride_x + std::int64_t{count[kKx]} * i_.dilation_x + i_.offset_x;
  if (py < 0 || py >= std::int64_t{i_.height} || px < 0 || px >= std::int64_t{i_.width}) return 0;
  auto row = [&](std::int64_t y) {
    const std::int64_t ring = i_.ring;
    if (ring == 0 || (y >= 0 && y < ring)) return y;  // a division only where the ring wraps
    return (y % ring + ring) % ring;
  };
  const std::int64_t base = i_.act_base + block * i_.act_ic;
  if (!i_.displaced) return banks_.One(base + row(py) * i_.act_row + px * i_.act_x);
  BankMask mask = 0;
  for (std::int64_t dy = c_.displacement_min; dy <= c_.displacement_max; ++dy) {
    const std::int64_t at = base + row(py + dy) * i_.act_row;
    mask |=
        banks_.Pairs(at + (px + c_.displacement_min) * i_.act_x, at + (px + c_.displacement_max) * i_.act_x);
  }
  return mask;
}

MatrixTimer::Span MatrixTimer::Run() const {
  // Counters of a run that has several rows start anew in its second; only that of the next step is certain.
  bool y_runs = false, x_runs = false;
  for (int k = outer_; k < 6; ++k)
    if (n_[order_[k]] > 1) (order_[k] == kX ? x_runs : y_runs) = true;
  Span span = SpanOf(y_runs ? 0 : count_[kY], y_runs ? n_[kY] - 1 : count_[kY], x_runs ? 0 : count_[kX],
                     x_runs ? n_[kX] - 1 : count_[kX]);
  span.steps = run_ - position_;
  return span;
}

MatrixTimer::Span MatrixTimer::Row() const {
  int inner = 5;
  while (inner > outer_ && n_[order_[inner]] == 1) --inner;
  if (inner < outer_ || order_[inner] != kX) return Run();
  // Of its steps those that are all inside the map, or all outside.
  const std::int64_t stride = std::max<std::int64_t>(i_.stride_x, 1);
  const std::int64_t at =
      std::int64_t{count_[kX]} * i_.stride_x + std::int64_t{count_[kKx]} * i_.dilation_x + i_.offset_x;
  const std::int64_t end = at < 0 ? 0 : std::int64_t{i_.width};
  const std::int64_t rest = n_[kX] - count_[kX];
  const std::int64_t steps = at < end ? std::min(rest, (end - at + stride - 1) / stride) : rest;
  Span span = SpanOf(count_[kY], count_[kY], count_[kX], count_[kX] + steps - 1);
  span.steps = steps;
  if (!i_.displaced && (at < 0 || at >= end)) span.banks = 0;
  return span;
}

// Of steps from `first` to `last` of the current tile.
MatrixTimer::Span MatrixTimer::SpanOf(std::int64_t first_y, std::int64_t last_y, std::int64_t first_x,
                                      std::int64_t last_x) const {
  const std::int64_t tap_y = std::int64_t{count_[kKy]} * i_.dilation_y + i_.offset_y;
  const std::int64_t tap_x = std::int64_t{count_[kKx]} * i_.dilation_x + i_.offset_x;
  std::int64_t top = first_y * i_.stride_y + tap_y, bottom = last_y * i_.stride_y + tap_y;
  const std::int64_t left = first_x * i_.stride_x + tap_x, right = last_x * i_.stride_x + tap_x;
  if (i_.displaced) return {reach_, false, 0};
  const bool inside =
      top >= 0 && bottom < std::int64_t{i_.height} && left >= 0 && right < std::int64_t{i_.width};
  top = std::max<std::int64_t>(top, 0);  // other rows are not read
  std::int64_t row_step = std::int64_t{i_.act_row} * i_.stride_y;
  if (const std::int64_t ring = i_.ring; ring != 0) {
    const bool wraps = top % ring + (bottom - top) >= ring;
    if (wraps) row_step = i_.act_row;
    bottom = wraps ? ring - 1 : bottom - top + top % ring;
    top = wraps ? 0 : top % ring;
  }
  const std::int64_t block =
      std::int64_t{i_.ic_first} + std::int64_t{count_[kOc]} * i_.ic_stride_o + count_[kIc];
  const std::int64_t base = i_.act_base + block * i_.act_ic;
  const std::int64_t low = base + top * i_.act_row + std::max<std::int64_t>(left, 0) * i_.act_x;
  const std::int64_t high = base + bottom * i_.act_row + right * i_.act_x;
  BankMask mask = banks_.Pairs(low, high);
  const bool even = (row_step % 2 == 0 || top == bottom) &&
                    ((std::int64_t{i_.act_x} * i_.stride_x % 2 == 0) || left == right);
  // Half words at even distances lie all in the first or all in the second bank of their pairs.
  if (even && inside) mask &= low % 2 == 0 ? kFirstBanks : kFirstBanks << 1;
  return {mask, inside && (mask & (mask - 1)) == 0 && mask != 0 && high < c_.act_half_words, 0};
}

Quiet MatrixTimer::Look(std::int64_t now) const {
  Activity why;
  const std::int64_t time = Earliest(&why);
  if (time > now) return {time - now, why};
  // Within a run neither the tile nor a vector repeats; its first three steps may meet vectors of the run
  // before.
  if (smooth_ && held_ >= 0 && (position_ >= 3 || Clear())) return {rest_ - 1, Activity::kBusy};
  if (tile_ != held_ || position_ == 0) return {0, Activity::kBusy};
  return {position_ >= 3 || Clear() ? run_ - 1 - position_ : 0, Activity::kBusy};
}

// Counters `steps` after the next one; returns how many steps that is into a run.
std::int64_t MatrixTimer::Ahead(std::int64_t steps, Counters* count) const {
  *count = count_;
  std::int64_t carry = steps;
  for (int k = 5; k >= 0 && carry != 0; --k) {
    const int counter = order_[k];
    const std::int64_t sum = (*count)[counter] + carry;
    carry = sum < n_[counter] ? 0 : sum / n_[counter];
    (*count)[counter] = static_cast<std::uint32_t>(sum - carry * n_[counter]);
  }
  const std::int64_t position = position_ + steps;
  return position < run_ ? position : position % run_;
}

// Whether the steps of this run behind the next one meet no vector of the steps made before.
bool MatrixTimer::Clear() const {
  for (std::int64_t ahead = 1; ahead < 3 && position_ + ahead < run_; ++ahead) {
    Counters count;
    Ahead(ahead, &count);
    const std::int64_t acc = Acc(count);
    if (acc == issued_[0].address || acc == issued_[1].address) return false;
  }
  return true;
}

// Whether a run lasts as long as a tile takes, and its first steps meet no vector of the last ones of the run
// before, whichever oc block that is.
bool MatrixTimer::Smooth() const {
  if (run_ < c_.tile_cycles || run_ < 6) return false;
  for (int k = 0; k < outer_; ++k)
    if ((order_[k] == kY || order_[k] == kX) && n_[order_[k]] > 1) return false;
  for (const std::int64_t oc : {std::int64_t{0}, std::int64_t{1}, 1 - std::int64_t{i_.n_oc}})
    for (std::int64_t first = 0; first < 3; ++first)
      for (std::int64_t last = 1; last <= 3; ++last) {
        Counters a, b;
        Ahead(first, &a);
        Ahead(run_ - last, &b);
        if (Acc(a) + oc * i_.acc_oc == Acc(b)) return false;
      }
  return true;
}

void MatrixTimer::Skip(std::int64_t now, const Quiet& what, std::int64_t cycles) {
  if (what.activity != Activity::kBusy) return;
  if (cycles > 3) {  // the last three are noted one by one
    Counters count;
    position_ = Ahead(cycles - 3, &count);
    count_ = count;
    rest_ -= cycles - 3;
    Place();
    if (position_ != 0) held_ = tile_;  // runs that Look joins wait for no tile
    now += cycles - 3;
    cycles = 3;
  }
  for (std::int64_t k = 0; k < cycles; ++k) Note(now + k);
}

}  // namespace tilewright
